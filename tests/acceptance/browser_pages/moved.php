<?php
header('Location: http://' . $_SERVER['HTTP_HOST'] . $_GET['to'], true, 302);
