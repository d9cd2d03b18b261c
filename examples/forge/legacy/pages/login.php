<?php
/* Log in with a name and a password. */

$wrong = false;
$next = next_path(isset($_GET['next']) ? $_GET['next'] : (isset($_POST['next']) ? $_POST['next'] : '/'));

if ($method === 'POST') {
    if (!form_is_genuine()) {
        return;
    }
    $user = (string) posted_text('user');
    $row = db_row('SELECT name, password_hash FROM users WHERE name = ?', array($user));
    // An unknown name costs as much time as a wrong password.
    $hash = $row === null ? '$2y$10$YrLDYSFUEJJDj/H6/UlcjeOsaJYrMnh44qoR3HzBpC8VqRHXJHJxa' : $row['password_hash'];
    if (password_verify((string) posted_text('password'), $hash) && $row !== null) {
        session_regenerate_id(true);
        unset($_SESSION['token']);
        $_SESSION['user'] = $row['name'];
        redirect($next);
        return;
    }
    $wrong = true;
}

// The token opens the session, and so must come before the first output.
$token = csrf_token();
page_head('Log in', $wrong ? 403 : 200);
?>
<h1>Log in</h1>
<?php if ($wrong) { ?>
<p class="wrong">Name or password is wrong.</p>
<?php } ?>
<form action="/login" method="post">
<input type="hidden" name="token" value="<?php echo h($token) ?>">
<input type="hidden" name="next" value="<?php echo h($next) ?>">
<label for="user">Name</label> <input type="text" id="user" name="user">
<label for="password">Password</label> <input type="password" id="password" name="password">
<p><input type="submit" value="Log in"></p>
</form>
<?php
page_foot();
