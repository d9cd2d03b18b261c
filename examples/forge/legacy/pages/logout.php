<?php
/* Log out: the session and its cookie go. */

if (!form_is_genuine()) {
    return;
}
$_SESSION = array();
session_destroy();
setcookie(SESSION_COOKIE, '', array('expires' => 1, 'path' => '/', 'httponly' => true, 'samesite' => 'Lax'));
redirect('/');
