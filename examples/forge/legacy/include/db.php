<?php
/*
 * The database: SQLite or MariaDB through PDO, prepared statements only.
 *
 * Names, versions and file names are compared byte by byte on both databases.
 */

function db()
{
    static $pdo = null;
    if ($pdo === null) {
        $pdo = new PDO(forge_dsn(), forge_setting('FORGE_DB_USER'), forge_setting('FORGE_DB_PASSWORD'), array(
            PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
            PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
            PDO::ATTR_EMULATE_PREPARES => false,
        ));
        if (db_is_sqlite($pdo)) {
            $pdo->exec('PRAGMA busy_timeout = 5000');
            $pdo->exec('PRAGMA foreign_keys = ON');
        }
    }
    return $pdo;
}

function db_is_sqlite(PDO $pdo)
{
    return $pdo->getAttribute(PDO::ATTR_DRIVER_NAME) === 'sqlite';
}

function db_query($sql, $values = array())
{
    $statement = db()->prepare($sql);
    $statement->execute($values);
    return $statement;
}

/** The first row, or null. */
function db_row($sql, $values = array())
{
    $row = db_query($sql, $values)->fetch();
    return $row === false ? null : $row;
}

function db_rows($sql, $values = array())
{
    return db_query($sql, $values)->fetchAll();
}

/** Every name, version and file name that goes into a URL or a key has one of these forms. */
function is_project_name($name)
{
    return is_string($name) && preg_match('/^[a-z0-9][a-z0-9+.-]{0,127}$/D', $name) === 1;
}

function is_release_version($version)
{
    return is_string($version) && preg_match('/^[A-Za-z0-9][A-Za-z0-9.+:~_-]{0,159}$/D', $version) === 1;
}

function is_architecture($name)
{
    return is_string($name) && preg_match('/^[a-z0-9][a-z0-9-]{0,31}$/D', $name) === 1;
}

function is_release_filename($name)
{
    // No .php at the end: web servers take such an address for a script of theirs.
    return is_string($name) && preg_match('/^(?!.*\.php$)[A-Za-z0-9][A-Za-z0-9.+~_-]{0,199}$/Di', $name) === 1;
}

function find_project($name)
{
    if (!is_project_name($name)) {
        return null;
    }
    return db_row('SELECT * FROM projects WHERE name = ?', array($name));
}

function find_release_by_filename($project, $filename)
{
    if (!is_project_name($project) || !is_release_filename($filename)) {
        return null;
    }
    return db_row('SELECT * FROM releases WHERE project = ? AND filename = ?', array($project, $filename));
}
