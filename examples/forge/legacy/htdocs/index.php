<?php
/* The front door: finds the page for the path, and shows the site's own page when that fails. */

error_reporting(E_ALL);
ini_set('display_errors', '0');
ini_set('log_errors', '1');

$forge = dirname(__FILE__) . '/..';
require $forge . '/include/config.php';
require $forge . '/include/db.php';
require $forge . '/include/format.php';
require $forge . '/include/session.php';
require $forge . '/include/publish.php';
require $forge . '/include/files.php';
require $forge . '/include/page.php';

set_error_handler('raise_php_error');
set_exception_handler('show_failure');

/* path => page, methods; the first that fits. Names in the pattern become variables of the page. */
$pages = array(
    array('~^/(?:projects)?$~D', 'projects', 'GET'),
    array('~^/project/(?P<name>[^/]+)$~D', 'project', 'GET'),
    array('~^/project/(?P<name>[^/]+)/releases$~D', 'releases', 'GET'),
    array('~^/project/(?P<name>[^/]+)/edit$~D', 'edit', 'GET POST'),
    array('~^/download/(?P<name>[^/]+)/(?P<filename>[^/]+)$~D', 'download', 'GET'),
    array('~^/mirror/(?P<name>[^/]+)/(?P<filename>[^/]+)$~D', 'mirror', 'GET'),
    array('~^/search$~D', 'search', 'GET'),
    array('~^/login$~D', 'login', 'GET POST'),
    array('~^/logout$~D', 'logout', 'POST'),
    array('~^/upload$~D', 'upload', 'GET POST'),
    array('~^/broken$~D', 'broken', 'GET'),
);

/* Links from before the pretty ones: /index.php?page=project&name=bash */
$old_pages = array('projects', 'project', 'releases', 'search');

$path = rawurldecode(strtok($_SERVER['REQUEST_URI'], '?'));
if ($path !== '/') {
    $path = preg_replace('~/$~D', '', $path, 1);
}
$page = null;
$methods = 'GET';
if ($path === '/index.php' || ($path === '/' && isset($_GET['page']))) {
    $asked = isset($_GET['page']) ? $_GET['page'] : 'projects';
    $page = is_string($asked) && in_array($asked, $old_pages, true) ? $asked : null;
    $name = isset($_GET['name']) ? $_GET['name'] : '';
} else {
    foreach ($pages as $entry) {
        if (preg_match($entry[0], $path, $match)) {
            list(, $page, $methods) = $entry;
            $name = isset($match['name']) ? $match['name'] : '';
            $filename = isset($match['filename']) ? $match['filename'] : '';
            break;
        }
    }
}

$method = $_SERVER['REQUEST_METHOD'] === 'HEAD' ? 'GET' : $_SERVER['REQUEST_METHOD'];
if ($page === null) {
    not_found_page();
} elseif (!in_array($method, explode(' ', $methods), true)) {
    header('Allow: ' . strtr($methods, array('GET' => 'GET, HEAD', ' ' => ', ')));
    error_page(405, 'Not allowed', 'This page cannot be asked for in this way.');
} else {
    require $forge . '/pages/' . $page . '.php';
}
