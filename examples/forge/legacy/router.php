<?php
/*
 * For PHP's own server, which has no rewrite rules:
 *     php -S 127.0.0.1:8090 -t legacy/htdocs legacy/router.php
 */
if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/style.css') {
    header('Content-Type: text/css; charset=utf-8');
    readfile(dirname(__FILE__) . '/htdocs/style.css');
    return true;
}
require dirname(__FILE__) . '/htdocs/index.php';
