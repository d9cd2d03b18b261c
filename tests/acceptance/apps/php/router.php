<?php
// The legacy side of these tests: every address is a page that says what PHP was asked.
// Pages with a life of their own are files beside this one.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) ?: '/';
if (preg_match('#^(/[ab])?/([a-z-]+)$#', $path, $match)) {
    $prefix = $match[1];
    $script = __DIR__ . "/pages/$match[2].php";
    if (is_file($script)) {
        require $script;
        return true;
    }
}
header('Content-Type: text/plain; charset=utf-8');
header('X-Side: legacy');
echo "php {$_SERVER['REQUEST_METHOD']} {$_SERVER['REQUEST_URI']}\n";
echo 'visitor=' . ($_SERVER['HTTP_X_FORWARDED_FOR'] ?? '') . "\n";
echo 'cookie=' . ($_SERVER['HTTP_COOKIE'] ?? '') . "\n";
echo 'body=' . file_get_contents('php://input') . "\n";
return true;
