-- Events from triggers, for code that cannot change. SQLite 3.38 and newer (json_object).
--
-- An example to copy, once for each table that is mirrored: here `projects` with the key `name`,
-- whose entity is `project`. Replace the names, and list the columns of the state in each
-- json_object and after UPDATE OF, there without `ver`. First run outbox.sqlite.sql, and once
--     ALTER TABLE projects ADD COLUMN ver INTEGER NOT NULL DEFAULT 1;
-- Running it again does no harm.
--
-- A column that every page view changes (downloads) makes an event of every page view.

-- A deleted entity that comes back must go on counting, so its version outlives its row.
CREATE TABLE IF NOT EXISTS bridge_versions (
    aggregatetype TEXT    NOT NULL,
    aggregateid   TEXT    NOT NULL,
    ver           INTEGER NOT NULL,  -- the next life of this entity begins above it
    PRIMARY KEY (aggregatetype, aggregateid)
);

DROP TRIGGER IF EXISTS bridge_projects_before_insert;
DROP TRIGGER IF EXISTS bridge_projects_after_insert;
DROP TRIGGER IF EXISTS bridge_projects_after_update;
DROP TRIGGER IF EXISTS bridge_projects_after_delete;

-- Without ON CONFLICT on purpose: within a trigger, the word REPLACE of the site's own statement
-- would be used instead of it.
CREATE TRIGGER bridge_projects_before_insert BEFORE INSERT ON projects
BEGIN
    INSERT INTO bridge_versions (aggregatetype, aggregateid, ver)
        SELECT 'project', NEW.name, 0 WHERE NOT EXISTS (
            SELECT 1 FROM bridge_versions WHERE aggregatetype = 'project' AND aggregateid = NEW.name);
    -- REPLACE: the old row goes away, if its deletion is told at all, with its version + 1.
    UPDATE bridge_versions
        SET ver = max(ver, coalesce((SELECT ver + 1 FROM projects WHERE name = NEW.name), 0))
        WHERE aggregatetype = 'project' AND aggregateid = NEW.name;
END;

-- SQLite cannot set NEW.ver: the version is written after the row. That second UPDATE does not
-- start the trigger below, because it names no column but `ver`.
CREATE TRIGGER bridge_projects_after_insert AFTER INSERT ON projects
BEGIN
    UPDATE bridge_versions SET ver = ver + 1
        WHERE aggregatetype = 'project' AND aggregateid = NEW.name;
    UPDATE projects SET ver = (
            SELECT ver FROM bridge_versions WHERE aggregatetype = 'project' AND aggregateid = NEW.name)
        WHERE name = NEW.name;
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
        SELECT 'project', name, 'project.changed',
            json_object(
                'name', name, 'summary', summary, 'homepage', homepage,
                'downloads', downloads
            ),
            ver, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
        FROM projects WHERE name = NEW.name;
END;

CREATE TRIGGER bridge_projects_after_update
AFTER UPDATE OF name, summary, homepage, downloads ON projects
BEGIN
    UPDATE projects SET ver = OLD.ver + 1 WHERE name = NEW.name;
    -- A new key is another entity, which may have lived before; the old one is gone.
    UPDATE projects SET ver = max(ver, 1 + coalesce((
            SELECT ver FROM bridge_versions WHERE aggregatetype = 'project' AND aggregateid = NEW.name), 0))
        WHERE name = NEW.name AND OLD.name <> NEW.name;
    INSERT INTO bridge_versions (aggregatetype, aggregateid, ver)
        SELECT 'project', OLD.name, 0 WHERE OLD.name <> NEW.name AND NOT EXISTS (
            SELECT 1 FROM bridge_versions WHERE aggregatetype = 'project' AND aggregateid = OLD.name);
    UPDATE bridge_versions SET ver = max(ver, OLD.ver + 1)
        WHERE aggregatetype = 'project' AND aggregateid = OLD.name AND OLD.name <> NEW.name;
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
        SELECT 'project', OLD.name, 'project.deleted', NULL,
            OLD.ver + 1, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
        WHERE OLD.name <> NEW.name;
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
        SELECT 'project', name, 'project.changed',
            json_object(
                'name', name, 'summary', summary, 'homepage', homepage,
                'downloads', downloads
            ),
            ver, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
        FROM projects WHERE name = NEW.name;
END;

CREATE TRIGGER bridge_projects_after_delete AFTER DELETE ON projects
BEGIN
    INSERT INTO bridge_versions (aggregatetype, aggregateid, ver)
        SELECT 'project', OLD.name, 0 WHERE NOT EXISTS (
            SELECT 1 FROM bridge_versions WHERE aggregatetype = 'project' AND aggregateid = OLD.name);
    UPDATE bridge_versions SET ver = max(ver, OLD.ver + 1)
        WHERE aggregatetype = 'project' AND aggregateid = OLD.name;
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
        VALUES ('project', OLD.name, 'project.deleted', NULL,
            OLD.ver + 1, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;
