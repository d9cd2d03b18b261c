<?php
/*
 * Publishes every project and every release with its version: the first load of the mirror.
 *
 *     FORGE_REDIS_PORT=6379 php publish_all.php
 *
 * It may run on a live site and again at any time: what is older than the mirror is ignored.
 * Ends with status 1 when not everything could be published.
 */

error_reporting(E_ALL);
require dirname(__FILE__) . '/../include/config.php';
require dirname(__FILE__) . '/../include/db.php';
require dirname(__FILE__) . '/../include/publish.php';

define('ROWS_PER_READ', 500);

/** Publish a table in the order of its key; `$after` is a condition on the key of the last row. */
function publish_table($kind, $select, $after, $key)
{
    $sent = 0;
    $rows = db_rows($select . ' ORDER BY ' . implode(', ', $key) . ' LIMIT ' . ROWS_PER_READ);
    while ($rows) {
        $changes = array();
        foreach ($rows as $row) {
            $changes[] = change_of($kind, $row);
        }
        $taken = bridge_producer()->publishMany($changes);
        $sent += $taken;
        if ($taken < count($changes)) {
            fwrite(STDERR, "Redis does not take events; $sent were published. Start it and run this again.\n");
            fwrite(STDERR, bridge_producer()->error() . "\n");
            exit(1);
        }
        $last = array();
        foreach ($key as $column) {
            $last[] = $row[$column];
        }
        $rows = db_rows($select . ' WHERE ' . $after . ' ORDER BY ' . implode(', ', $key) . ' LIMIT ' . ROWS_PER_READ, $last);
    }
    return $sent;
}

if (!forge_publishes()) {
    fwrite(STDERR, "FORGE_REDIS_PORT is not set: there is no queue to publish to\n");
    exit(1);
}
$projects = publish_table('project', 'SELECT * FROM projects', 'name > ?', array('name'));
$releases = publish_table(
    'release',
    'SELECT * FROM releases',
    '(project, version, architecture) > (?, ?, ?)',
    array('project', 'version', 'architecture')
);
printf("%d projects and %d releases published\n", $projects, $releases);
