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
