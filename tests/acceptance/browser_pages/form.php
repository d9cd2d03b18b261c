<?php
header('Content-Type: text/plain; charset=utf-8');
$files = [];
foreach ($_FILES as $name => $file) {
    $files[$name] = [$file['name'], $file['size'], $file['error'] ? '' : sha1_file($file['tmp_name'])];
}
echo json_encode([$_POST, $files]);
