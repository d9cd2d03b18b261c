<?php
// Notes every request that PHP saw, with its whole body, and answers with its number.
$body = file_get_contents('php://input');
$line = json_encode([$_SERVER['REQUEST_METHOD'], base64_encode($_SERVER['REQUEST_URI']), base64_encode($body)]);
file_put_contents(getenv('RECORD'), "$line\n", FILE_APPEND | LOCK_EX);
header('Content-Type: text/plain');
header('Content-Length: 4');
echo 'seen';
