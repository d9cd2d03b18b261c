<?php
/* A mirror: the bytes of one file, whole or in part (RFC 9110, sections 13 and 14). */

$release = find_release_by_filename($name, $filename);
if ($release === null) {
    not_found_page();
    return;
}
$size = (int) $release['size'];
$etag = '"' . substr($release['sha256'], 0, 32) . '"';
$modified = gmdate('D, d M Y H:i:s', strtotime($release['published'])) . ' GMT';

header('ETag: ' . $etag);
header('Last-Modified: ' . $modified);
header('Accept-Ranges: bytes');

if (isset($_SERVER['HTTP_IF_NONE_MATCH'])) {
    $held = str_replace('W/', '', $_SERVER['HTTP_IF_NONE_MATCH']);
    $unchanged = trim($held) === '*' || in_array($etag, array_map('trim', explode(',', $held)), true);
} else {
    $since = isset($_SERVER['HTTP_IF_MODIFIED_SINCE']) ? strtotime($_SERVER['HTTP_IF_MODIFIED_SINCE']) : false;
    $unchanged = $since !== false && $since >= strtotime($release['published']);
}
if ($unchanged) {
    http_response_code(304);
    // Without this PHP adds its default text/html.
    header('Content-Type:');
    return;
}

$range = null;
$condition = isset($_SERVER['HTTP_IF_RANGE']) ? trim($_SERVER['HTTP_IF_RANGE']) : null;
if (isset($_SERVER['HTTP_RANGE']) && ($condition === null || $condition === $etag || $condition === $modified)) {
    $range = asked_range($_SERVER['HTTP_RANGE'], $size);
}
if ($range === false) {
    header('Content-Range: bytes */' . $size);
    error_page(416, 'No such range', 'The file has ' . show_number($size) . ' bytes.');
    return;
}
list($first, $last) = $range === null ? array(0, $size - 1) : $range;
if ($range !== null) {
    http_response_code(206);
    header('Content-Range: bytes ' . $first . '-' . $last . '/' . $size);
}
// An uploaded file may hold anything: the browser must save it, not run it.
header('Content-Type: application/octet-stream');
header('Content-Disposition: attachment; filename="' . $release['filename'] . '"');
header('X-Content-Type-Options: nosniff');
header('Content-Length: ' . ($last - $first + 1));
if ($_SERVER['REQUEST_METHOD'] === 'HEAD') {
    return;
}
$stream = open_release($release);
fseek($stream, $first);
for ($left = $last - $first + 1; $left > 0; $left -= strlen($chunk)) {
    $chunk = fread($stream, min($left, 65536));
    if ($chunk === false || $chunk === '') {
        throw new RuntimeException('the file of ' . $release['filename'] . ' is shorter than ' . $size . ' bytes');
    }
    echo $chunk;
    flush();
}
fclose($stream);
