<?php
/*
 * Tells the bridge about changes: full state of one project or release, with its version.
 *
 * Call publish_later() after the commit. Nothing is published without FORGE_REDIS_PORT.
 */

function project_state($row)
{
    return array(
        'name' => $row['name'],
        'summary' => $row['summary'],
        'description' => $row['description'],
        'section' => $row['section'],
        'homepage' => $row['homepage'],
        'maintainer' => $row['maintainer'],
        'version' => $row['version'],
        'size_kb' => (int) $row['size_kb'],
        'updated' => $row['updated'],
        'downloads' => (int) $row['downloads'],
        'license' => $row['license'],
    );
}

function release_state($row)
{
    return array(
        'project' => $row['project'],
        'version' => $row['version'],
        'architecture' => $row['architecture'],
        'filename' => $row['filename'],
        'size' => (int) $row['size'],
        'sha256' => $row['sha256'],
        'published' => $row['published'],
    );
}

/** The producer, or null when this site publishes nothing. */
function bridge_producer()
{
    static $producer = null;
    $port = (int) forge_setting('FORGE_REDIS_PORT', '0');
    if ($producer === null && $port > 0) {
        require_once dirname(__FILE__) . '/../../../../php/BridgeProducer.php';
        $producer = new BridgeProducer(array(
            'host' => forge_setting('FORGE_REDIS_HOST', '127.0.0.1'),
            'port' => $port,
            'db' => (int) forge_setting('FORGE_REDIS_DB', '0'),
            'queue' => 'bridge.events',
            'source' => '/forge',
            'breaker_file' => forge_data_dir() . '/bridge-breaker',
            // No visitor waits for a script on the command line.
            'timeout_ms' => PHP_SAPI === 'cli' ? 5000 : (int) forge_setting('FORGE_REDIS_TIMEOUT_MS', '50'),
        ));
    }
    return $producer;
}

/** True when the row's state is on the queue. */
function publish_project($row)
{
    return bridge_producer()->publish('project', 'changed', $row['name'], (int) $row['ver'], project_state($row));
}

function publish_release($row)
{
    $key = $row['project'] . '/' . $row['version'] . '/' . $row['architecture'];
    return bridge_producer()->publish('release', 'changed', $key, (int) $row['ver'], release_state($row));
}

/** Publish a committed row once the visitor has the answer; `$how` is one of the two above. */
function publish_later($how, $row)
{
    if (bridge_producer() !== null) {
        register_shutdown_function('publish_after_answer', $how, $row);
    }
}

function publish_after_answer($how, $row)
{
    if (function_exists('fastcgi_finish_request')) {
        fastcgi_finish_request();
    }
    if (!call_user_func($how, $row)) {
        error_log('forge: a change was not published (' . $how . ', version ' . $row['ver'] . ')');
    }
}
