<?php
// What PHP makes of the request, but for what names the way it came.
header('Content-Type: text/plain; charset=utf-8');
header('Cache-Control: no-store');
echo json_encode([
    $_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI'], isset($_SERVER['PATH_INFO']) ? $_SERVER['PATH_INFO'] : '',
    $_GET, $_COOKIE, file_get_contents('php://input'), $_SERVER['HTTP_USER_AGENT'], $_SERVER['HTTP_ACCEPT_ENCODING'],
]);
