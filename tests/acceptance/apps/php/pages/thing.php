<?php
// A thing of a SQLite file: a POST edits it, and everything shows it. For test_own_edit.py.
require __DIR__ . '/../../../../../php/BridgeProducer.php';
$name = $_GET['name'];
$db = new PDO('sqlite:' . getenv('THINGS'));
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$db->exec('PRAGMA busy_timeout = 10000');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $db->exec('BEGIN IMMEDIATE');
    $db->prepare(
        'INSERT INTO things (name, ver, text) VALUES (:name, 1, :text)'
        . ' ON CONFLICT (name) DO UPDATE SET ver = ver + 1, text = :text'
    )->execute(array('name' => $name, 'text' => $_POST['text']));
}
$found = $db->prepare('SELECT ver, text FROM things WHERE name = ?');
$found->execute(array($name));
list($version, $text) = $found->fetch(PDO::FETCH_NUM);
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $db->exec('COMMIT');
    $bridge = new BridgeProducer(array(
        'port' => (int) getenv('THINGS_REDIS_PORT'), 'source' => '/things', 'timeout_ms' => 10000,
        'freshness_key' => getenv('THINGS_FRESHNESS_KEY'),
    ));
    if (!$bridge->publish('thing', 'changed', $name, $version, array('text' => $text))) {
        throw new RuntimeException($bridge->error());
    }
    $bridge->freshness();
}
header('Content-Type: text/plain');
echo "legacy $version $text";
