<?php
/*
 * Settings of the site, all from the environment (or fastcgi_param under php-fpm).
 *
 * FORGE_DATA_DIR   a writable folder: SQLite file, sessions, uploads (required)
 * FORGE_DSN        a PDO DSN; default is SQLite in the data folder
 * FORGE_DB_USER, FORGE_DB_PASSWORD    for MariaDB
 * FORGE_REDIS_HOST, FORGE_REDIS_PORT, FORGE_REDIS_DB    without the port nothing is published
 * FORGE_REDIS_TIMEOUT_MS    the longest a page waits for Redis
 * FORGE_OUTBOX     1: every change is written to the table bridge_outbox, too
 * FORGE_FRESHNESS_KEY    id:secret, one of BRIDGE_FRESHNESS_KEYS: visitors see their own edits
 * FORGE_MIRROR     base URL that downloads are redirected to; default is this site
 */

function forge_setting($name, $default = '')
{
    $value = getenv($name);
    return $value === false || $value === '' ? $default : $value;
}

/** The data folder, or one folder in it, made when it is missing. No trailing slash. */
function forge_data_dir($folder = '')
{
    $path = forge_setting('FORGE_DATA_DIR');
    if ($path === '') {
        throw new RuntimeException('FORGE_DATA_DIR is not set: set it to a folder that PHP may write to');
    }
    $path = rtrim($path, '/') . ($folder === '' ? '' : '/' . $folder);
    // Two first requests may both find it missing: only a folder that is still not there is an error.
    if (!is_dir($path) && !@mkdir($path, 0770, true) && !is_dir($path)) {
        throw new RuntimeException('cannot make the folder ' . $path);
    }
    return $path;
}

function forge_dsn()
{
    $dsn = forge_setting('FORGE_DSN');
    return $dsn === '' ? 'sqlite:' . forge_data_dir() . '/forge.sqlite' : $dsn;
}
