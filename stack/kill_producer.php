<?php
/*
 * Edits projects at full speed, each edit in a transaction with its outbox row, until a file
 * appears. Writes a line "name version" to a log after each commit that the database confirmed.
 *
 *     php kill_producer.php PRODUCER DSN REDIS_PORT PROJECTS LOG STOP
 */

error_reporting(E_ALL);
list(, $producer, $dsn, $redis_port, $projects, $log, $stop) = $argv;
require $producer;

$bridge = new BridgeProducer(array(
    'port' => (int) $redis_port, 'source' => '/kill', 'breaker_file' => $log . '.breaker', 'throw' => true,
));
$pdo = new PDO($dsn, 'root', '', array(PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION));
$committed = fopen($log, 'ab');
mt_srand(getmypid());

while (!file_exists($stop)) {
    clearstatcache();
    $name = 'p' . mt_rand(1, (int) $projects);
    // One in ten goes, or comes back if it was gone.
    $turn = mt_rand(1, 10) === 1;
    $pdo->beginTransaction();
    $pdo->prepare('UPDATE kill_projects SET ver = ver + 1, value = value + 1, gone = ' . ($turn ? '1 - gone' : 'gone')
        . ' WHERE name = ?')->execute(array($name));
    $select = $pdo->prepare('SELECT * FROM kill_projects WHERE name = ?');
    $select->execute(array($name));
    $row = $select->fetch(PDO::FETCH_ASSOC);
    if ($row['gone']) {
        $bridge->enqueue($pdo, 'project', 'deleted', $name, $row['ver']);
    } else {
        $bridge->enqueue($pdo, 'project', 'changed', $name, $row['ver'], array(
            'value' => (int) $row['value'], 'text' => str_repeat('x', mt_rand(1, 500)) . $row['ver'],
        ));
    }
    $pdo->commit();
    fwrite($committed, $name . ' ' . $row['ver'] . "\n");
    $bridge->afterCommit();
}
