-- Events from triggers, for code that cannot change. MySQL 5.7, MariaDB 10.3 and newer.
--
-- An example to copy, once for each table that is mirrored: here `projects` with the key `name`,
-- whose entity is `project`. Replace the names, and list the columns of the state in both
-- JSON_OBJECT. First run outbox.mysql.sql, and once
--     ALTER TABLE projects ADD COLUMN ver BIGINT NOT NULL DEFAULT 1;
-- Run it with the mysql client, which knows DELIMITER. Running it again does no harm.
--
-- What no trigger sees: TRUNCATE, and rows that a foreign key deletes (ON DELETE CASCADE).
-- REPLACE works when it is the first statement of its transaction, or under READ COMMITTED;
-- INSERT … ON DUPLICATE KEY UPDATE always works.
-- A column that every page view changes (downloads) makes an event of every page view.

-- A deleted entity that comes back must go on counting, so its version outlives its row.
CREATE TABLE IF NOT EXISTS bridge_versions (
    aggregatetype VARCHAR(64) CHARACTER SET ascii NOT NULL,
    aggregateid   VARBINARY(1024) NOT NULL,
    ver           BIGINT NOT NULL,  -- the next life of this entity begins above it
    PRIMARY KEY (aggregatetype, aggregateid)
) ENGINE=InnoDB;

DROP TRIGGER IF EXISTS bridge_projects_before_insert;
DROP TRIGGER IF EXISTS bridge_projects_after_insert;
DROP TRIGGER IF EXISTS bridge_projects_before_update;
DROP TRIGGER IF EXISTS bridge_projects_after_update;
DROP TRIGGER IF EXISTS bridge_projects_after_delete;

DELIMITER //

CREATE TRIGGER bridge_projects_before_insert BEFORE INSERT ON projects FOR EACH ROW
BEGIN
    -- The lock on this row keeps two who write the same key in order.
    INSERT INTO bridge_versions (aggregatetype, aggregateid, ver) VALUES ('project', NEW.name, 1)
        ON DUPLICATE KEY UPDATE ver = ver + 1;
    -- REPLACE: the old row is deleted after this, with its version + 1.
    IF EXISTS (SELECT 1 FROM projects WHERE name = NEW.name) THEN
        UPDATE bridge_versions
            SET ver = GREATEST(ver, 2 + (SELECT p.ver FROM projects p WHERE p.name = NEW.name))
            WHERE aggregatetype = 'project' AND aggregateid = NEW.name;
    END IF;
    SET NEW.ver = (SELECT v.ver FROM bridge_versions v
        WHERE v.aggregatetype = 'project' AND v.aggregateid = NEW.name);
END//

CREATE TRIGGER bridge_projects_after_insert AFTER INSERT ON projects FOR EACH ROW
BEGIN
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
    VALUES ('project', NEW.name, 'project.changed',
        JSON_OBJECT(
            'name', NEW.name, 'summary', NEW.summary, 'homepage', NEW.homepage,
            'downloads', NEW.downloads
        ),
        NEW.ver, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED));
END//

CREATE TRIGGER bridge_projects_before_update BEFORE UPDATE ON projects FOR EACH ROW
BEGIN
    -- Under the lock of the row: versions follow the order of commits.
    SET NEW.ver = OLD.ver + 1;
    IF BINARY OLD.name <> BINARY NEW.name THEN
        -- A new key is another entity, which may have lived before.
        INSERT INTO bridge_versions (aggregatetype, aggregateid, ver)
            VALUES ('project', NEW.name, NEW.ver)
            ON DUPLICATE KEY UPDATE ver = GREATEST(ver + 1, NEW.ver);
        SET NEW.ver = (SELECT v.ver FROM bridge_versions v
            WHERE v.aggregatetype = 'project' AND v.aggregateid = NEW.name);
    END IF;
END//

CREATE TRIGGER bridge_projects_after_update AFTER UPDATE ON projects FOR EACH ROW
BEGIN
    IF BINARY OLD.name <> BINARY NEW.name THEN
        INSERT INTO bridge_versions (aggregatetype, aggregateid, ver)
            VALUES ('project', OLD.name, OLD.ver + 1)
            ON DUPLICATE KEY UPDATE ver = GREATEST(ver, OLD.ver + 1);
        INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
        VALUES ('project', OLD.name, 'project.deleted', NULL,
            OLD.ver + 1, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED));
    END IF;
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
    VALUES ('project', NEW.name, 'project.changed',
        JSON_OBJECT(
            'name', NEW.name, 'summary', NEW.summary, 'homepage', NEW.homepage,
            'downloads', NEW.downloads
        ),
        NEW.ver, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED));
END//

CREATE TRIGGER bridge_projects_after_delete AFTER DELETE ON projects FOR EACH ROW
BEGIN
    INSERT INTO bridge_versions (aggregatetype, aggregateid, ver)
        VALUES ('project', OLD.name, OLD.ver + 1)
        ON DUPLICATE KEY UPDATE ver = GREATEST(ver, OLD.ver + 1);
    INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)
    VALUES ('project', OLD.name, 'project.deleted', NULL,
        OLD.ver + 1, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED));
END//

DELIMITER ;
