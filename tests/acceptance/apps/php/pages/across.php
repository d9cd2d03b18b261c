<?php
// Answers after the file `watch` was replaced twice, or after 0.3 s: across a reload.
$watch = $_GET['watch'] ?? '';
$replaced = 0;
if ($watch !== '') {
    clearstatcache();
    $inode = @fileinode($watch);
    for ($tries = 0; $tries < 300 && $replaced < 2; $tries++) {
        usleep(1000);
        clearstatcache();
        $now = @fileinode($watch);
        if ($now !== $inode) {
            $inode = $now;
            $replaced++;
        }
    }
}
header('Content-Type: application/json');
echo json_encode([
    'side' => 'php',
    'prefix' => $prefix,
    'host' => $_SERVER['HTTP_HOST'],
    'request_id' => $_SERVER['HTTP_X_REQUEST_ID'],
    'reloaded' => $replaced >= 2,
]), "\n";
