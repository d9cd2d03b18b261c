<?php
// Says that it began, and answers when it may; notes lie in the directory `desk`.
$desk = $_GET['desk'];
touch("$desk/began");
for ($tries = 0; $tries < 20000 && !file_exists("$desk/go"); $tries++) {
    usleep(1000);
    clearstatcache();
}
header('Content-Type: text/plain');
echo "slow php\n";
