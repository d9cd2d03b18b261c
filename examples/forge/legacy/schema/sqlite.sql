CREATE TABLE IF NOT EXISTS projects (
    name        TEXT    NOT NULL PRIMARY KEY,
    summary     TEXT    NOT NULL,
    description TEXT    NOT NULL,
    section     TEXT    NOT NULL,
    homepage    TEXT    NOT NULL,
    maintainer  TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    size_kb     INTEGER NOT NULL,
    updated     TEXT    NOT NULL,
    downloads   INTEGER NOT NULL,
    license     TEXT,
    ver         INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS releases (
    project      TEXT    NOT NULL REFERENCES projects (name),
    version      TEXT    NOT NULL,
    architecture TEXT    NOT NULL,
    filename     TEXT    NOT NULL,
    size         INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    published    TEXT    NOT NULL,
    ver          INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (project, version, architecture)
);
CREATE UNIQUE INDEX IF NOT EXISTS releases_filename ON releases (project, filename);
CREATE TABLE IF NOT EXISTS users (
    name          TEXT NOT NULL PRIMARY KEY,
    password_hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS bridge_outbox (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    aggregatetype TEXT    NOT NULL,
    aggregateid   TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    payload       TEXT    NULL,
    ver           INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    published_at  INTEGER NULL,
    applied_at    INTEGER NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    next_try      INTEGER NULL     DEFAULT 0
);
CREATE INDEX IF NOT EXISTS bridge_outbox_next ON bridge_outbox (next_try, id);
