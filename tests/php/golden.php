<?php
/*
 * Produces the golden corpus (tests/golden/README.md) with the PHP it runs on: to the spool
 * directory GOLDEN_SPOOL, or to the Redis on GOLDEN_PORT. PHP 5.2 to 8.5.
 *
 * Prints a JSON object: the version of PHP, the names of the events made, in order, errors, and
 * what it makes of the tokens in freshness.json.
 */
error_reporting(E_ALL);
ini_set('display_errors', '1');
// What a site may have set must not change an event.
ini_set('precision', '4');
date_default_timezone_set('America/New_York');

$root = dirname(__FILE__) . '/../..';
require $root . '/php/BridgeProducer.php';

function made_text($given)
{
    if (is_string($given)) {
        return $given;
    }
    return isset($given['bytes']) ? pack('H*', $given['bytes']) : $given['text'];
}

function made($given)
{
    if ($given === null || isset($given['null'])) {
        return null;
    }
    list($kind) = array_keys($given);
    $value = $given[$kind];
    switch ($kind) {
        case 'text':
        case 'bytes':
            return made_text($given);
        case 'repeat':
            return str_repeat($value[0], $value[1]);
        case 'int':
            return (int) $value;
        case 'float':
            list($float) = array_values(unpack('d', strrev(pack('H*', $value))));
            return $float;
        case 'bool':
            return $value;
        case 'key':
            return call_user_func_array(array('BridgeProducer', 'key'), array_map('made', $value));
        case 'binary':
            return BridgeProducer::binary(made($value));
        case 'stream':
            $stream = fopen('php://memory', 'w+b');
            fwrite($stream, made($value));
            return $stream;
        case 'list':
            return array_map('made', $value);
        case 'date':
            return new DateTime($value[0], new DateTimeZone($value[1]));
    }
    $result = $kind === 'object' ? new stdClass() : array();
    foreach ($value as $pair) {
        $name = made_text($pair[0]);
        if ($kind === 'object') {
            $result->$name = made($pair[1]);
        } else {
            $result[$name] = made($pair[1]);
        }
    }
    return $result;
}

$spool = (string) getenv('GOLDEN_SPOOL');
$bridge = new BridgeProducer(array(
    'port' => (int) getenv('GOLDEN_PORT'), 'source' => '/golden', 'spool_dir' => $spool,
    'timeout_ms' => 10000,
));
$made = array();
$errors = array();
foreach (json_decode(file_get_contents($root . '/tests/golden/events.json'), true) as $case) {
    if (isset($case['bits']) && $case['bits'] > PHP_INT_SIZE * 8) {
        continue;
    }
    $given = $case['given'];
    $key = made($given['key']);
    $version = made($given['version']);
    $data = made($given['data']);
    $how = $spool === '' ? 'publish' : 'spool';
    if ($bridge->$how($given['entity'], $given['change'], $key, $version, $data)) {
        $made[] = $case['name'];
    } else {
        $errors[] = $case['name'] . ': ' . $bridge->error();
    }
}

$tokens = json_decode(file_get_contents($root . '/tests/golden/freshness.json'), true);
$freshness = new BridgeProducerFreshness($tokens['key'], array());
$signed = array();
foreach ($tokens['sign'] as $case) {
    $signed[$case['name']] = $freshness->sign($case['entries']);
}
$verified = array();
foreach ($tokens['verify'] as $case) {
    $verified[$case['name']] = $freshness->verify($case['token'], $tokens['now']);
}
echo json_encode(array(
    'signed' => $signed, 'verified' => $verified,
    'php' => PHP_VERSION, 'bits' => PHP_INT_SIZE * 8, 'made' => $made, 'errors' => $errors,
));
