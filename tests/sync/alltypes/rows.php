<?php
/**
 * A site's page: reads rows and hands each to the producer, as a PHP programmer would.
 *
 * Its one argument is a JSON file: producer, spool (a directory), way (how the rows are read), where
 * and user (of the database), setup (statements), and tables, each with entity, query, binary
 * (columns that hold bytes) and rows (for the way "given"). It prints what the producer refused: a
 * JSON list of entity, row and column.
 * Runs on PHP 5.2 to 8.5.
 */
error_reporting(E_ALL & ~8192);
ini_set('display_errors', '1');
$argument = isset($argv[1]) ? $argv[1] : getenv('ROWS_ARGUMENT');
$asked = json_decode(file_get_contents($argument), true);
require_once $asked['producer'];
$bridge = new BridgeProducer(array('spool_dir' => $asked['spool'], 'timeout_ms' => 2000));

function rows_by_pdo($asked, $query, $emulated, $stringify)
{
    $db = new PDO($asked['where'], $asked['user'], '');
    $db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
    if ($asked['emulate']) {
        $db->setAttribute(PDO::ATTR_EMULATE_PREPARES, $emulated);
    }
    $db->setAttribute(PDO::ATTR_STRINGIFY_FETCHES, $stringify);
    foreach ($asked['setup'] as $statement) {
        $db->exec($statement);
    }
    $found = $db->prepare($query);
    $found->execute(array(0));
    return $found->fetchAll(PDO::FETCH_ASSOC);
}

function rows_by_mysqli($asked, $query, $prepared, $native)
{
    $db = mysqli_init();
    if ($native) {
        $db->options(MYSQLI_OPT_INT_AND_FLOAT_NATIVE, 1);
    }
    $db->real_connect($asked['host'], $asked['user'], '', $asked['database'], $asked['port']);
    $db->set_charset('utf8mb4');
    foreach ($asked['setup'] as $statement) {
        $db->query($statement);
    }
    if (!$prepared) {
        return $db->query(str_replace('?', '0', $query))->fetch_all(MYSQLI_ASSOC);
    }
    $found = $db->prepare($query);
    $zero = 0;
    $found->bind_param('i', $zero);
    $found->execute();
    return $found->get_result()->fetch_all(MYSQLI_ASSOC);
}

function rows_by_pg($asked, $query, $binary)
{
    $db = pg_connect($asked['words']);
    foreach ($asked['setup'] as $statement) {
        pg_query($db, $statement);
    }
    $rows = pg_fetch_all(pg_query_params($db, str_replace('?', '$1', $query), array(0)));
    foreach ($rows as $number => $row) {
        foreach ($binary as $name) {
            if ($row[$name] !== null) {
                $rows[$number][$name] = pg_unescape_bytea($row[$name]);
            }
        }
    }
    return $rows;
}

function rows_by_sqlite3($asked, $query)
{
    $db = new SQLite3($asked['file']);
    $found = $db->query(str_replace('?', '0', $query));
    $rows = array();
    while ($row = $found->fetchArray(SQLITE3_ASSOC)) {
        $rows[] = $row;
    }
    return $rows;
}

function rows_of($asked, $table)
{
    $query = $table['query'];
    switch ($asked['way']) {
        case 'pdo native':
            return rows_by_pdo($asked, $query, false, false);
        case 'pdo stringify':
            return rows_by_pdo($asked, $query, true, true);
        case 'pdo emulated':
            return rows_by_pdo($asked, $query, true, false);
        case 'mysqli text':
            return rows_by_mysqli($asked, $query, false, false);
        case 'mysqli prepared':
            return rows_by_mysqli($asked, $query, true, false);
        case 'mysqli native':
            return rows_by_mysqli($asked, $query, false, true);
        case 'pg':
            return rows_by_pg($asked, $query, $table['binary']);
        case 'sqlite3':
            return rows_by_sqlite3($asked, $query);
    }
    $rows = array();
    foreach ($table['rows'] as $given) {
        $row = array();
        foreach ($given as $name => $value) {
            $row[$name] = $value === null ? null : base64_decode($value);
        }
        $rows[] = $row;
    }
    return $rows;
}

$refused = array();
foreach ($asked['tables'] as $table) {
    $entity = $table['entity'];
    foreach (rows_of($asked, $table) as $row) {
        $id = $row['id'];
        $version = $row['ver'];
        unset($row['ver']);
        foreach ($row as $name => $value) {
            if (is_resource($value)) {
                $row[$name] = $value = stream_get_contents($value);
            }
            if ($value !== null && in_array($name, $table['binary'], true)) {
                $row[$name] = array('base64' => base64_encode($value));
            }
            if (is_float($value) && !is_finite($value)) {
                // The producer refuses the whole row, and says so.
                if ($bridge->spool($entity, 'changed', $id, $version, $row)) {
                    throw new Exception('the producer took what JSON does not have');
                }
                $refused[] = array($entity, (string) $id, $name);
                unset($row[$name]);
            }
        }
        if (!$bridge->spool($entity, 'changed', $id, $version, $row)) {
            throw new Exception($bridge->error());
        }
    }
}
echo json_encode($refused);
