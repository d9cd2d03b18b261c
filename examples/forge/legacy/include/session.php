<?php
/*
 * Login with PHP's own sessions, and the token that forms carry.
 *
 * A visitor gets a session only on the login page; everybody else stays without a cookie.
 */

define('SESSION_COOKIE', 'PHPSESSID');

function open_session()
{
    if (session_status() === PHP_SESSION_ACTIVE) {
        return;
    }
    ini_set('session.use_strict_mode', '1');
    ini_set('session.gc_probability', '1');
    ini_set('session.gc_divisor', '100');
    session_name(SESSION_COOKIE);
    session_save_path(forge_data_dir('sessions'));
    session_set_cookie_params(array('path' => '/', 'httponly' => true, 'samesite' => 'Lax'));
    session_start();
}

/** The name of the visitor who is logged in, or null. */
function current_user()
{
    if (isset($_COOKIE[SESSION_COOKIE])) {
        $id = $_COOKIE[SESSION_COOKIE];
        if (is_string($id) && preg_match('/^[A-Za-z0-9,-]{1,128}$/D', $id) === 1) {
            open_session();
        } else {
            // PHP warns about an id that cannot be one; to this site it is no session at all.
            unset($_COOKIE[SESSION_COOKIE]);
        }
    }
    return isset($_SESSION['user']) ? $_SESSION['user'] : null;
}

function csrf_token()
{
    open_session();
    if (!isset($_SESSION['token'])) {
        $_SESSION['token'] = bin2hex(random_bytes(16));
    }
    return $_SESSION['token'];
}

/** True when the posted form carries this session's token; else the refusal has been shown. */
function form_is_genuine()
{
    current_user();
    $token = isset($_POST['token']) ? $_POST['token'] : '';
    if (isset($_SESSION['token']) && is_string($token) && hash_equals($_SESSION['token'], $token)) {
        return true;
    }
    error_page(403, 'Form refused', 'This form is too old or did not come from this site. Go back, reload the page and try again.');
    return false;
}

/** True when somebody is logged in; else the way to the login page has been shown. */
function visitor_may_write($path)
{
    if (current_user() !== null) {
        return true;
    }
    redirect('/login?next=' . rawurlencode($path));
    return false;
}

/** A path of this site to go to after login: never another host. */
function next_path($asked)
{
    $safe = is_string($asked) && preg_match('~^/(?![/\\\\])[A-Za-z0-9+.%/_-]*$~D', $asked) === 1;
    return $safe ? $asked : '/';
}

/** A text field of the posted form, line ends as \n; null when it is missing or is no UTF-8. */
function posted_text($field)
{
    $text = isset($_POST[$field]) ? $_POST[$field] : null;
    if (!is_string($text) || !mb_check_encoding($text, 'UTF-8')) {
        return null;
    }
    return str_replace(array("\r\n", "\r"), "\n", $text);
}
