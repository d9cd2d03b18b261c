<?php
http_response_code(404);
echo 'There is no such page.';
