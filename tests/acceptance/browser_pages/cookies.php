<?php
setcookie('first', 'a b;c', 0, '/');
setcookie('hidden', 'x', 0, '/', '', false, true);
header('Set-Cookie: third=3; Path=/', false);
