<?php
/*
 * The bytes behind a release.
 *
 * Uploaded files are kept under their checksum. Releases from Debian's metadata get a file of
 * text, made the same way each time from the release's own data, so nothing needs storing.
 */

/** A size in bytes for a generated file: 8 to 64 KiB, the same for the same name each time. */
function generated_size($filename)
{
    return 8192 + crc32($filename) % 57344;
}

function generated_bytes($project, $version, $architecture, $filename, $size)
{
    $stanza = "Project: $project\nVersion: $version\nArchitecture: $architecture\nFilename: $filename\n\n";
    return substr(str_repeat($stanza, (int) ceil($size / strlen($stanza))), 0, $size);
}

function upload_path($sha256)
{
    return forge_data_dir('uploads') . '/' . $sha256;
}

/** A stream at the start of the release's file. The caller closes it. */
function open_release($release)
{
    $path = upload_path($release['sha256']);
    if (is_file($path)) {
        return fopen($path, 'rb');
    }
    $stream = fopen('php://memory', 'w+b');
    fwrite($stream, generated_bytes(
        $release['project'],
        $release['version'],
        $release['architecture'],
        $release['filename'],
        (int) $release['size']
    ));
    rewind($stream);
    return $stream;
}

/**
 * What a Range header asks for (RFC 9110, section 14): array(first, last), both inclusive;
 * null for the whole file; false when nothing of it can be had.
 *
 * Several ranges at once, other units and broken headers mean the whole file.
 */
function asked_range($header, $size)
{
    if (!preg_match('/^bytes=([0-9]{0,15})-([0-9]{0,15})$/iD', trim($header), $match)) {
        return null;
    }
    list(, $first, $last) = $match;
    if ($first === '' && $last === '') {
        return null;
    }
    if ($first === '') {
        $length = (int) $last;
        return $length === 0 || $size === 0 ? false : array(max(0, $size - $length), $size - 1);
    }
    if ($last !== '' && (int) $last < (int) $first) {
        return null;
    }
    if ((int) $first >= $size) {
        return false;
    }
    return array((int) $first, $last === '' ? $size - 1 : min((int) $last, $size - 1));
}
