<?php
/*
 * One project with many releases, published as its maintainer's script would do it.
 *
 *     php many_releases.php LEGACY NAME COUNT
 *
 * LEGACY is the folder of the forge; its settings are in the environment.
 */

error_reporting(E_ALL);
list(, $legacy, $name, $count) = $argv;
foreach (array('config', 'db', 'files', 'publish') as $part) {
    require $legacy . '/include/' . $part . '.php';
}

function insert_row($table, $row)
{
    static $statements = array();
    if (!isset($statements[$table])) {
        $columns = array_keys($row);
        $statements[$table] = db()->prepare(
            'INSERT INTO ' . $table . ' (' . implode(', ', $columns) . ') VALUES (' . implode(', ', array_fill(0, count($columns), '?')) . ')'
        );
    }
    $statements[$table]->execute(array_values($row));
}

$project = array(
    'name' => $name, 'summary' => 'builds of every commit', 'description' => 'One release a commit.', 'section' => 'devel',
    'homepage' => '', 'maintainer' => 'Robot <robot@example.org>', 'version' => '1.' . $count, 'size_kb' => 1,
    'updated' => '2025-01-01T00:00:00Z', 'downloads' => 0, 'license' => null, 'ver' => 1,
);
$changes = array(change_of('project', $project));
db()->beginTransaction();
insert_row('projects', $project);
for ($number = 0; $number < $count; $number++) {
    $version = sprintf('1.%d~git%s', $number, substr(sha1((string) $number), 0, 40));
    $architecture = $number % 2 ? 'amd64' : 'all';
    $filename = $name . '_' . $version . '_' . $architecture . '.tar.gz';
    $release = array(
        'project' => $name, 'version' => $version, 'architecture' => $architecture, 'filename' => $filename,
        'size' => generated_size($filename), 'sha256' => hash('sha256', $filename),
        // Several at the same time, so that the other columns decide their order.
        'published' => gmdate('Y-m-d\TH:i:s\Z', 1700000000 + 60 * (int) ($number / 3)), 'ver' => 1,
    );
    insert_row('releases', $release);
    $changes[] = change_of('release', $release);
}
db()->commit();
$taken = 0;
// The time limit is one for all of a call.
foreach (array_chunk($changes, 5000) as $some) {
    $taken += bridge_producer()->publishMany($some);
}
if ($taken !== count($changes)) {
    fwrite(STDERR, $taken . ' of ' . count($changes) . ' were published: ' . bridge_producer()->error() . "\n");
    exit(1);
}
echo $taken, "\n";
