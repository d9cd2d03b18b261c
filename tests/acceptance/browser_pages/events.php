<?php
while (ob_get_level()) ob_end_flush();
header('Content-Type: text/event-stream');
header('X-Accel-Buffering: no');
for ($i = 0; $i < 100; $i++) {
    echo "data: event $i\n\n";
    flush();
    usleep(100000);
}
