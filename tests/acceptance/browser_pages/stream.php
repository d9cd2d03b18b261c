<?php
while (ob_get_level()) ob_end_flush();
header('X-Accel-Buffering: no');
for ($i = 0; $i < 5; $i++) {
    echo str_repeat("$i", 2000);
    flush();
    usleep(150000);
}
