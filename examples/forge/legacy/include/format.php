<?php
/* How text, numbers and dates are shown. The Python side shows them the same way. */

function h($text)
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

/** 1234567 -> 1,234,567 */
function show_number($number)
{
    return number_format((int) $number, 0, '.', ',');
}

/** 2023-06-10T08:05:00Z -> 10 Jun 2023, 08:05 UTC */
function show_time($rfc3339)
{
    return gmdate('j M Y, H:i', strtotime($rfc3339)) . ' UTC';
}

/** Only http and https become a link: a homepage must not be able to run a script. */
function is_web_address($url)
{
    return preg_match('~^https?://[^\s]+$~D', (string) $url) === 1;
}

/** The number of a list's page from ?p=: 1 without it, null when it is no page number. */
function asked_page()
{
    if (!isset($_GET['p'])) {
        return 1;
    }
    $page = $_GET['p'];
    if (!is_string($page) || preg_match('/^[1-9][0-9]{0,6}$/D', $page) !== 1) {
        return null;
    }
    return (int) $page;
}
