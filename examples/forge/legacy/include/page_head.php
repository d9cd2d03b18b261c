<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title><?php echo h($title) ?> – Forge</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<div id="header">
<a id="logo" href="/">Forge</a>
<form id="find" action="/search" method="get"><input type="text" name="q" size="24"> <input type="submit" value="Search"></form>
<?php if ($user === null) { ?>
<p id="visitor"><a href="/login">Log in</a></p>
<?php } else { ?>
<form id="visitor" action="/logout" method="post"><a href="/upload">Upload a release</a> | <?php echo h($user) ?> <input type="hidden" name="token" value="<?php echo h(csrf_token()) ?>"><input type="submit" value="Log out"></form>
<?php } ?>
</div>
<div id="content">
