-- The outbox of the bridge, for MySQL 5.7 and MariaDB 10.3 and newer.
--
-- One row for one change, written in the transaction of the change by BridgeProducer::enqueue()
-- or by the triggers of `bridgectl sync triggers`. `bridgectl relay` brings rows to the queue and forgets
-- a row when MongoDB holds its version. Running this file again does no harm.
--
-- Versions: give every table that is mirrored a column
--     ver BIGINT NOT NULL DEFAULT 1
-- and raise it in the transaction of the change, under the lock of the row: ver = ver + 1.

CREATE TABLE IF NOT EXISTS bridge_outbox (
    id            BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    aggregatetype VARCHAR(64)   NOT NULL,            -- the entity, for example project
    aggregateid   VARCHAR(1024) NOT NULL,            -- its key
    type          VARCHAR(80)   NOT NULL,            -- project.changed, .deleted or .touched
    payload       LONGTEXT      NULL,                -- the full state as a JSON object
    ver           BIGINT        NOT NULL,            -- its version
    created_at    BIGINT        NOT NULL,            -- times are milliseconds since 1970, UTC
    published_at  BIGINT        NULL,
    applied_at    BIGINT        NULL,
    attempts      INT           NOT NULL DEFAULT 0,
    next_try      BIGINT        NULL     DEFAULT 0,  -- NULL: the relay is done with this row
    KEY bridge_outbox_next (next_try, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
