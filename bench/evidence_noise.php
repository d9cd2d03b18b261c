<?php
// The noise of evidence_noise.py, in the pages of PHP: a router for `php -S`, before the site's own.

ob_start('evidence_noise');
return require getenv('EVIDENCE_ROUTER');

function evidence_hex($bytes)
{
    return bin2hex(random_bytes($bytes));
}

function evidence_uuid()
{
    return vsprintf('%s%s-%s-4%s-a%s-%s%s%s', array(
        evidence_hex(2), evidence_hex(2), evidence_hex(2), substr(evidence_hex(2), 1),
        substr(evidence_hex(2), 1), evidence_hex(2), evidence_hex(2), evidence_hex(2),
    ));
}

function evidence_noise($text)
{
    $html = true;
    foreach (headers_list() as $line) {
        if (stripos($line, 'content-type:') === 0 && stripos($line, 'text/html') === false) {
            $html = false;
        }
    }
    if (!$html) {
        return $text;
    }
    $now = microtime(true);
    header_remove('Content-Length');
    header('X-Trace: ' . evidence_uuid());
    header('X-Served-In: ' . number_format(mt_rand(10, 900) / 10000, 4));
    header('ETag: W/"' . evidence_hex(8) . '"');
    header('Last-Modified: ' . gmdate('D, d M Y H:i:s', time() - mt_rand(0, 4)) . ' GMT');
    header('Set-Cookie: visit=' . evidence_uuid() . '; Path=/; HttpOnly; SameSite=Lax', false);
    if (strpos($text, '</body>') === false) {
        return $text;
    }
    $names = array(
        'Hosting that hosts', 'A keyboard of wood', 'Learn COBOL in a night', 'Mugs with a prompt',
    );
    shuffle($names);
    $ads = '';
    foreach ($names as $one) {
        $ads .= '<li class="ad">' . $one . '</li>';
    }
    $classes = array('wide', 'warm', 'new');
    shuffle($classes);
    $widget = substr(base_convert(evidence_hex(6), 16, 36), 0, 8);
    $head = '<meta name="csrf-token" content="' . evidence_hex(16) . '">' . "\n"
        . '<script src="/tick.js?v=' . (int) $now . '"></script>' . "\n"
        . '<script nonce="' . evidence_hex(12) . '">var started = ' . number_format($now, 3, '.', '')
        . ';</script>' . "\n";
    $form = '<input type="hidden" name="token" value="' . evidence_hex(16) . '">';
    $top = '<ul id="ads" class="' . implode(' ', $classes) . '">' . $ads . '</ul>' . "\n";
    $bottom = '<div class="box"><label for="w-' . $widget . '">Tell me more</label> '
        . '<input id="w-' . $widget . '" type="checkbox"></div>' . "\n"
        . '<p id="counter">' . number_format(mt_rand(1000, 9000)) . ' visits</p>' . "\n"
        . '<p id="online">' . mt_rand(20, 79) . ' people are here</p>' . "\n"
        . '<p id="clock">' . gmdate('Y-m-d H:i:s') . '</p>' . "\n"
        . '<p id="made">Made in ' . number_format(mt_rand(10, 900) / 10000, 4) . ' s</p>' . "\n"
        . '<span data-view="' . evidence_uuid() . '"></span>' . "\n"
        . sprintf("<!-- web%02d -->\n", mt_rand(1, 8))
        . str_repeat("\n", mt_rand(0, 4));
    $text = preg_replace('~</head>~', $head . '</head>', $text, 1);
    $text = preg_replace('~</form>~', $form . '</form>', $text, 1);
    $text = preg_replace("~<body>\n~", "<body>\n" . $top, $text, 1);
    return preg_replace('~</body>~', $bottom . '</body>', $text, 1);
}
