<?php
/* A page that always fails: what visitors see then is the site's own page for it. */

throw new RuntimeException('this page is broken on purpose');
