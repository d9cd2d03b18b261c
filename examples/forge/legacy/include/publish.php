<?php
/*
 * Tells the bridge about changes: full state of one project or release, with its version.
 *
 * Call record_change() in the transaction of the change, and publish_later() after its
 * commit and before any output. Nothing is published without FORGE_REDIS_PORT, and nothing goes into the outbox table
 * without FORGE_OUTBOX=1.
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

/** An event of a row, as the producer takes it; `$kind` is project or release. */
function change_of($kind, $row)
{
    if ($kind === 'project') {
        return array('project', 'changed', $row['name'], (int) $row['ver'], project_state($row));
    }
    $key = $row['project'] . '/' . $row['version'] . '/' . $row['architecture'];
    return array('release', 'changed', $key, (int) $row['ver'], release_state($row));
}

function forge_publishes()
{
    return (int) forge_setting('FORGE_REDIS_PORT', '0') > 0;
}

function forge_has_outbox()
{
    return forge_setting('FORGE_OUTBOX') === '1';
}

function bridge_producer()
{
    static $producer = null;
    if ($producer === null) {
        require_once dirname(__FILE__) . '/../../../../php/BridgeProducer.php';
        $producer = new BridgeProducer(array(
            'host' => forge_setting('FORGE_REDIS_HOST', '127.0.0.1'),
            'port' => (int) forge_setting('FORGE_REDIS_PORT', '0'),
            'db' => (int) forge_setting('FORGE_REDIS_DB', '0'),
            'queue' => 'bridge.events',
            'source' => '/forge',
            'breaker_file' => forge_data_dir() . '/bridge-breaker',
            // No visitor waits for a script on the command line.
            'timeout_ms' => PHP_SAPI === 'cli' ? 5000 : (int) forge_setting('FORGE_REDIS_TIMEOUT_MS', '50'),
            'fast' => forge_publishes(),
            // A change that the outbox does not take must not be committed.
            'throw' => true,
            'freshness_key' => forge_setting('FORGE_FRESHNESS_KEY'),
        ));
    }
    return $producer;
}

/** Note a change, in its transaction. Throws when the outbox does not take it. */
function record_change($kind, $row)
{
    list($entity, $change, $key, $version, $state) = change_of($kind, $row);
    if (forge_has_outbox()) {
        bridge_producer()->enqueue(db(), $entity, $change, $key, $version, $state);
    }
}

/** Publish a committed row once the visitor has the answer, which lets them see their own edit. */
function publish_later($kind, $row)
{
    if (forge_publishes() || forge_has_outbox()) {
        $later = forge_has_outbox() ? array() : array(change_of($kind, $row));
        bridge_producer()->freshness($later);
    }
    if (forge_publishes()) {
        register_shutdown_function('publish_after_answer', $kind, $row);
    }
}

function publish_after_answer($kind, $row)
{
    if (function_exists('fastcgi_finish_request')) {
        fastcgi_finish_request();
    }
    $producer = bridge_producer();
    if (forge_has_outbox()) {
        // On a failure the relay takes it from the outbox.
        $producer->afterCommit();
        return;
    }
    list($entity, $change, $key, $version, $state) = change_of($kind, $row);
    if (!$producer->publish($entity, $change, $key, $version, $state)) {
        error_log('forge: a change was not published (' . $kind . ', version ' . $row['ver'] . ')');
    }
}
