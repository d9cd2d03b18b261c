<?php
/*
 * What one event costs a page, in microseconds. Needs a Redis: php bench.php [PORT]
 */
error_reporting(E_ALL);
require dirname(__FILE__) . '/BridgeProducer.php';

$port = isset($argv[1]) ? (int) $argv[1] : 6379;
$folder = sys_get_temp_dir() . '/bridge-bench-' . getmypid();
mkdir($folder);
$row = array('name' => 'vim', 'summary' => str_repeat('text ', 40), 'downloads' => 5, 'rate' => 0.1);
$options = array('port' => $port, 'queue' => 'bench', 'spool_dir' => $folder . '/spool', 'timeout_ms' => 5000);
$bridge = new BridgeProducer($options);
$db = new PDO('sqlite:' . $folder . '/bench.sqlite');
$db->exec(file_get_contents(dirname(__FILE__) . '/sql/outbox.sqlite.sql'));
$many = array_fill(0, 500, array('project', 'changed', 'vim', 1, $row));

function per_event($name, $started, $count)
{
    printf("%-34s %7.1f\n", $name, (microtime(true) - $started) * 1000000 / $count);
}

$started = microtime(true);
for ($i = 0; $i < 2000; $i++) {
    $bridge->publish('project', 'changed', 'vim', $i, $row) || exit($bridge->error() . "\n");
}
per_event('publish()', $started, 2000);

$started = microtime(true);
for ($i = 0; $i < 10; $i++) {
    $bridge->publishMany($many) === 500 || exit($bridge->error() . "\n");
}
per_event('publishMany(), 500 at once', $started, 5000);

$started = microtime(true);
for ($i = 0; $i < 5000; $i++) {
    $bridge->spool('project', 'changed', 'vim', $i, $row) || exit($bridge->error() . "\n");
}
per_event('spool()', $started, 5000);

$db->beginTransaction();
$started = microtime(true);
for ($i = 0; $i < 5000; $i++) {
    $bridge->enqueue($db, 'project', 'changed', 'vim', $i, $row) || exit($bridge->error() . "\n");
}
per_event('enqueue(), SQLite, no commit', $started, 5000);
$db->rollBack();
$bridge->afterRollback();

$down = new BridgeProducer(array('port' => 1));
$started = microtime(true);
for ($i = 0; $i < 2000; $i++) {
    $down->publish('project', 'changed', 'vim', $i, $row);
}
per_event('publish(), breaker open', $started, 2000);

foreach (array_merge(glob($folder . '/spool/*'), array($folder . '/bench.sqlite')) as $file) {
    unlink($file);
}
rmdir($folder . '/spool');
rmdir($folder);
