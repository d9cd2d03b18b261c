<?php
/* Sends a download on to the mirror. */

$release = find_release_by_filename($name, $filename);
if ($release === null) {
    not_found_page();
    return;
}
redirect(
    rtrim(forge_setting('FORGE_MIRROR'), '/') . '/mirror/' . rawurlencode($release['project']) . '/' . rawurlencode($release['filename']),
    302
);
