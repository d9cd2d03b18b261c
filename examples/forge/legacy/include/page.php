<?php
/* The frame around every page, redirects, and the pages for errors. */

/** Start a page; everything printed up to page_foot() is its middle. */
function page_head($title, $status = 200)
{
    http_response_code($status);
    header('Content-Type: text/html; charset=utf-8');
    $user = current_user();
    ob_start();
    include dirname(__FILE__) . '/page_head.php';
}

function page_foot()
{
    include dirname(__FILE__) . '/page_foot.php';
    $html = ob_get_clean();
    header('Content-Length: ' . strlen($html));
    echo $html;
}

/** `$location` is a path of this site or a mirror's URL, already percent-encoded. */
function redirect($location, $status = 303)
{
    http_response_code($status);
    header('Location: ' . $location);
    header('Content-Type: text/html; charset=utf-8');
    $html = "<!DOCTYPE html>\n<title>Redirecting</title>\n<p>Go to <a href=\"" . h($location) . "\">" . h($location) . "</a>.</p>\n";
    header('Content-Length: ' . strlen($html));
    echo $html;
    // The next request of this visitor must not wait for this one's session lock.
    if (session_status() === PHP_SESSION_ACTIVE) {
        session_write_close();
    }
}

function error_page($status, $heading, $text)
{
    page_head($heading, $status);
    echo '<h1>' . h($heading) . "</h1>\n<p>" . h($text) . "</p>\n<p><a href=\"/\">All projects</a></p>\n";
    page_foot();
}

function not_found_page()
{
    error_page(404, 'Page not found', 'There is no such page here. It may have been renamed, or it never was.');
}

/** The site's page for everything that nobody caught; the details go to the error log only. */
function show_failure($error)
{
    while (ob_get_level() > 0) {
        ob_end_clean();
    }
    error_log('forge: ' . $error);
    if (headers_sent()) {
        return;
    }
    header_remove('Location');
    header_remove('Content-Length');
    header_remove('Content-Disposition');
    http_response_code(500);
    header('Content-Type: text/html; charset=utf-8');
    // No frame from page_head(): what failed may be the session or the database.
    $html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Something went wrong – Forge</title>\n"
        . "<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<div id=\"content\">\n<h1>Something went wrong</h1>\n"
        . "<p>The error has been noted. Please try again in a minute.</p>\n</div>\n</body>\n</html>\n";
    header('Content-Length: ' . strlen($html));
    echo $html;
}

function raise_php_error($severity, $message, $file, $line)
{
    if (!(error_reporting() & $severity)) {
        return false;
    }
    throw new ErrorException($message, 0, $severity, $file, $line);
}
