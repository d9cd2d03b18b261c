CREATE TABLE IF NOT EXISTS projects (
    name        VARCHAR(128) NOT NULL PRIMARY KEY,
    summary     VARCHAR(255) NOT NULL,
    description MEDIUMTEXT   NOT NULL,
    section     VARCHAR(64)  NOT NULL,
    homepage    VARCHAR(255) NOT NULL,
    maintainer  VARCHAR(255) NOT NULL,
    version     VARCHAR(160) NOT NULL,
    size_kb     BIGINT       NOT NULL,
    updated     CHAR(20)     NOT NULL,
    downloads   BIGINT       NOT NULL,
    license     VARCHAR(64),
    ver         BIGINT       NOT NULL DEFAULT 1
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS releases (
    project      VARCHAR(128) NOT NULL,
    version      VARCHAR(160) NOT NULL,
    architecture VARCHAR(32)  NOT NULL,
    filename     VARCHAR(200) NOT NULL,
    size         BIGINT       NOT NULL,
    sha256       CHAR(64)     NOT NULL,
    published    CHAR(20)     NOT NULL,
    ver          BIGINT       NOT NULL DEFAULT 1,
    PRIMARY KEY (project, version, architecture),
    UNIQUE KEY releases_filename (project, filename),
    FOREIGN KEY (project) REFERENCES projects (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS users (
    name          VARCHAR(64)  NOT NULL PRIMARY KEY,
    password_hash VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS bridge_outbox (
    id            BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    aggregatetype VARCHAR(64)   NOT NULL,
    aggregateid   VARCHAR(1024) NOT NULL,
    type          VARCHAR(80)   NOT NULL,
    payload       LONGTEXT      NULL,
    ver           BIGINT        NOT NULL,
    created_at    BIGINT        NOT NULL,
    published_at  BIGINT        NULL,
    applied_at    BIGINT        NULL,
    attempts      INT           NOT NULL DEFAULT 0,
    next_try      BIGINT        NULL     DEFAULT 0,
    KEY bridge_outbox_next (next_try, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
