<?php
header('ETag: "one"');
header('Cache-Control: max-age=60');
if (isset($_SERVER['HTTP_IF_NONE_MATCH']) && $_SERVER['HTTP_IF_NONE_MATCH'] === '"one"') {
    http_response_code(304);
    exit;
}
echo 'tagged';
