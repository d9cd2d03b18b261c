<?php
header('Content-Type: application/octet-stream');
for ($i = 0; $i < 64; $i++) {
    echo str_repeat(chr($i) . "\n\r\0", 16384);
}
