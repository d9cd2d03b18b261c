-- Events from triggers, for code that cannot change. PostgreSQL 11 and newer.
--
-- An example to copy, once for each table that is mirrored: here `projects` with the key `name`,
-- whose entity is `project`. Replace these names. The state is the whole row without `ver`; list
-- further columns that the mirror must not have after it: - 'ver' - 'password'.
-- First run outbox.postgresql.sql, and once
--     ALTER TABLE projects ADD COLUMN ver BIGINT NOT NULL DEFAULT 1;
-- Running it again does no harm.
--
-- What no trigger here sees: TRUNCATE.
-- A column that every page view changes (downloads) makes an event of every page view.

-- A deleted entity that comes back must go on counting, so its version outlives its row.
CREATE TABLE IF NOT EXISTS bridge_versions (
    aggregatetype VARCHAR(64)   NOT NULL,
    aggregateid   VARCHAR(1024) NOT NULL,
    ver           BIGINT        NOT NULL,  -- the next life of this entity begins above it
    PRIMARY KEY (aggregatetype, aggregateid)
);

CREATE OR REPLACE FUNCTION bridge_now() RETURNS BIGINT LANGUAGE sql AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT $$;

CREATE OR REPLACE FUNCTION bridge_projects_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.name = NEW.name THEN
        -- Under the lock of the row: versions follow the order of commits.
        NEW.ver := OLD.ver + 1;
        RETURN NEW;
    END IF;
    -- A new key: an entity that may have lived before. The lock on this row keeps two who write
    -- the same key in order.
    INSERT INTO bridge_versions AS v (aggregatetype, aggregateid, ver)
        VALUES ('project', NEW.name, CASE WHEN TG_OP = 'UPDATE' THEN OLD.ver + 1 ELSE 1 END)
        ON CONFLICT (aggregatetype, aggregateid)
        DO UPDATE SET ver = greatest(v.ver + 1, excluded.ver)
        RETURNING v.ver INTO NEW.ver;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION bridge_projects_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.name <> NEW.name) THEN
        INSERT INTO bridge_versions AS v (aggregatetype, aggregateid, ver)
            VALUES ('project', OLD.name, OLD.ver + 1)
            ON CONFLICT (aggregatetype, aggregateid)
            DO UPDATE SET ver = greatest(v.ver, excluded.ver);
        INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
            VALUES ('project', OLD.name, 'project.deleted', NULL, OLD.ver + 1, bridge_now());
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
            VALUES ('project', NEW.name, 'project.changed', (to_jsonb(NEW) - 'ver')::TEXT,
                NEW.ver, bridge_now());
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS bridge_projects_version ON projects;
CREATE TRIGGER bridge_projects_version BEFORE INSERT OR UPDATE ON projects
    FOR EACH ROW EXECUTE FUNCTION bridge_projects_version();
DROP TRIGGER IF EXISTS bridge_projects_event ON projects;
CREATE TRIGGER bridge_projects_event AFTER INSERT OR UPDATE OR DELETE ON projects
    FOR EACH ROW EXECUTE FUNCTION bridge_projects_event();
