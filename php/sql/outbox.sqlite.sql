-- The outbox of the bridge, for SQLite 3.
--
-- One row for one change, written in the transaction of the change by BridgeProducer::enqueue()
-- or by the triggers of `bridgectl sync triggers`. `bridgectl relay` brings rows to the queue and forgets
-- a row when MongoDB holds its version. Running this file again does no harm.
--
-- Versions: give every table that is mirrored a column
--     ver INTEGER NOT NULL DEFAULT 1
-- and raise it in the transaction of the change: ver = ver + 1.

CREATE TABLE IF NOT EXISTS bridge_outbox (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    aggregatetype TEXT    NOT NULL,            -- the entity, for example project
    aggregateid   TEXT    NOT NULL,            -- its key
    type          TEXT    NOT NULL,            -- project.changed, .deleted or .touched
    payload       TEXT    NULL,                -- the full state as a JSON object
    ver           INTEGER NOT NULL,            -- its version
    created_at    INTEGER NOT NULL,            -- times are milliseconds since 1970, UTC
    published_at  INTEGER NULL,
    applied_at    INTEGER NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    next_try      INTEGER NULL     DEFAULT 0   -- NULL: the relay is done with this row
);
CREATE INDEX IF NOT EXISTS bridge_outbox_next ON bridge_outbox (next_try, id);
