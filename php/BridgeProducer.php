<?php
/**
 * Tells the bridge what changed: one file, no extension needed, PHP 5.2 to 8.5.
 *
 *     $bridge = new BridgeProducer(array('host' => '127.0.0.1', 'source' => '/forge'));
 *     $bridge->publish('project', 'changed', $row['name'], $row['ver'], $row);
 *
 * Three ways, each with a guarantee of its own (README.md says which):
 *
 *     publish()   after the commit: to Redis at once, or never
 *     spool()     to a file on this machine; publish() does it too when Redis is away
 *     enqueue()   to a table, in the transaction of the change: nothing is ever lost
 *
 * And freshness(), after any of them, so that visitors see their own edits at once.
 *
 * It never throws into the page unless asked to, never shows a warning on it, and never waits
 * longer than `timeout_ms` for Redis. BridgeProducer is the class to use; the others are its
 * parts. The syntax is that of PHP 5.2 on purpose: no closures, no namespaces, no short arrays.
 */
class BridgeProducer
{
    /** Seconds without a try after Redis did not answer. */
    const BREAKER_SECONDS = 5;
    /** Milliseconds that the fast path has before the relay looks at an outbox row. */
    const HEAD_START_MS = 1000;
    /** What enqueue() remembers for afterCommit(), in bytes; the relay sends what is beyond. */
    const MAX_REMEMBERED_BYTES = 8388608;

    private $events;
    private $redis;
    private $spool;
    private $outbox;
    private $freshness;
    private $breakerFile;
    private $fast;
    private $throw;

    private $error = '';
    private $downSince = null;
    private $remembered = array();
    private $rememberedBytes = 0;

    /**
     * Options, all optional:
     *
     * host          IP address of Redis, a name from /etc/hosts (looking up any other name takes
     *               as long as it takes), or unix:///path. Default 127.0.0.1.
     * port          default 6379.
     * db            number of the database, default 0.
     * username, password    default none.
     * queue         name of the queue, default bridge.events.
     * source        path or URL that names this site, default /site.
     * timeout_ms    the longest wait for Redis in one call, default 50; connecting, sending and
     *               reading share it.
     * breaker_file  a file that PHP may create: while it is younger than 5 seconds no process
     *               tries to reach Redis. Without it only this object remembers a failure.
     * client        'phpredis' or 'predis' to use that instead of our own socket.
     * redis         a connected Redis (phpredis) or Predis\Client of the site, to be used instead.
     *               Its timeouts, its connection and its database are the site's business then.
     * spool_dir     a directory for spool(), and for publish() when Redis does not take an event.
     * outbox_table  name of the table that enqueue() writes to, default bridge_outbox.
     * fast          whether afterCommit() also sends what enqueue() wrote, default true.
     * max_event     bytes of the largest event as JSON, default 1048576; twice max_document of the
     *               worker's sync.yaml where that is more than 1 MiB.
     * throw         whether enqueue() throws a RuntimeException instead of returning false.
     * freshness_key 'id:secret', one of those in BRIDGE_FRESHNESS_KEYS: what freshness() signs
     *               with. Without it freshness() does nothing.
     * freshness_cookie  array of path ('/'), domain (''), secure (null: when the visitor came by
     *               HTTPS), httponly (true), samesite ('Lax', or '' for none).
     */
    public function __construct($options = array())
    {
        $defaults = array(
            'host' => '127.0.0.1', 'port' => 6379, 'db' => 0, 'username' => '', 'password' => '',
            'queue' => 'bridge.events', 'source' => '/site', 'timeout_ms' => 50,
            'breaker_file' => '', 'client' => '', 'redis' => null, 'spool_dir' => '',
            'outbox_table' => 'bridge_outbox', 'fast' => true, 'throw' => false,
            'freshness_key' => '', 'freshness_cookie' => array(),
            'max_event' => BridgeProducerEvents::MAX_EVENT_BYTES,
        );
        $options = array_merge($defaults, is_array($options) ? $options : array());
        $timeout = max(1, (int) $options['timeout_ms']) / 1000.0;
        $this->events = new BridgeProducerEvents(
            (string) $options['source'], (int) $options['max_event']
        );
        $this->redis = new BridgeProducerRedis($options, $timeout);
        $this->spool = new BridgeProducerSpool((string) $options['spool_dir'], $timeout);
        $this->outbox = new BridgeProducerOutbox((string) $options['outbox_table']);
        $this->freshness = new BridgeProducerFreshness(
            (string) $options['freshness_key'], (array) $options['freshness_cookie']
        );
        $this->breakerFile = (string) $options['breaker_file'];
        $this->fast = (bool) $options['fast'];
        $this->throw = (bool) $options['throw'];
    }

    /**
     * Publish one change. Call it after the commit.
     *
     * $entity   kind of thing, for example 'project': a-z, 0-9 and _.
     * $change   'changed' or 'deleted'.
     * $key      what names the entity among its kind.
     * $version  integer, or string of digits, that grows with every change of this entity.
     * $data     its full state as an array with names, or an object; nothing for 'deleted'.
     *
     * Returns true when Redis confirmed that the event is on the queue, or when it is in the
     * spool. After false it most likely is nowhere, and error() says why.
     */
    public function publish($entity, $change, $key, $version, $data = null)
    {
        $event = array($entity, $change, $key, $version, $data);
        return $this->guard('publishAll', array(array($event), true)) === 1;
    }

    /**
     * Publish many changes over one connection, within one `timeout_ms` for all of them.
     *
     * $events  a list of arrays with what publish() takes: entity, change, key, version, data.
     *
     * Returns how many of them are on the queue or in the spool. When some are not, error() has
     * the first reason; publishing all of them again does no harm.
     */
    public function publishMany($events)
    {
        return (int) $this->guard('publishAll', array($events, true));
    }

    /**
     * Append one change to the spool directory; `bridgectl relay` brings it to the queue.
     *
     * Returns true when the event is in the file. After false it is not, and error() says why.
     */
    public function spool($entity, $change, $key, $version, $data = null)
    {
        $event = array($entity, $change, $key, $version, $data);
        return $this->guard('spoolAll', array(array($event))) === true;
    }

    /**
     * Write one change to the outbox table, in the transaction that the caller has open on $db.
     *
     * $db  PDO (MySQL, MariaDB, PostgreSQL, SQLite) or mysqli, in any mode of error reporting.
     *
     * Returns true when the row is written. After false THE CALLER MUST ROLL BACK: a commit
     * would be a change that the mirror never hears of. With the option `throw` it throws a
     * RuntimeException instead of returning false.
     *
     * Ask for the last insert id of your own statements before: this is an INSERT, too.
     */
    public function enqueue($db, $entity, $change, $key, $version, $data = null)
    {
        $event = array($entity, $change, $key, $version, $data);
        $done = $this->guard('enqueueOne', array($db, $event)) === true;
        if (!$done && $this->throw) {
            throw new RuntimeException('The change is not in the outbox: ' . $this->error);
        }
        return $done;
    }

    /**
     * Send at once what enqueue() wrote since the last call. Call it after the COMMIT, best when
     * the visitor already has the page.
     *
     * Returns true when Redis has everything. False is no harm: the rows are in the table, and
     * `bridgectl relay` sends them a second later.
     */
    public function afterCommit()
    {
        $bodies = $this->remembered;
        $this->freshness->keep();
        $this->afterRollback();
        return $this->guard('deliver', array($bodies, false)) === count($bodies);
    }

    /** Forget what enqueue() wrote since the last call. Call it after a ROLLBACK. */
    public function afterRollback()
    {
        $this->remembered = array();
        $this->rememberedBytes = 0;
        $this->freshness->forget();
    }

    /**
     * Let the visitor see what this request wrote, whoever answers next. Call it once, after the
     * COMMIT and before any output: it sets the cookie `bv`, for 30 seconds.
     *
     * It covers what publish(), publishMany(), spool() and enqueue() took, and what the visitor's
     * own cookie already asks for. What publish() could not deliver it covers too: until the
     * mirror has it, the visitor is answered by PHP.
     *
     * $later  what will be published only after the answer: a list of arrays, as publishMany()
     *         takes it; the data may be left out.
     *
     * Returns the token, the value of the cookie; '' when there is nothing to see, or when
     * error() says why not.
     */
    public function freshness($later = array())
    {
        return (string) $this->guard('freshnessToken', array($later));
    }

    /**
     * The key of a row whose key has several columns: key($row['project'], $row['version']).
     *
     * Each argument is the text of one column, in the order of the key: a string, an integer, or
     * a boolean. A `/` within one of them becomes %2F, so that no two rows have the same key. With
     * one argument it is that text as it is. bin2hex() makes the text of a binary column.
     *
     * Returns null where one of them is null or none of these: a row is never named by null, and
     * publish(), spool() and enqueue() refuse it.
     */
    public static function key($part)
    {
        $parts = func_get_args();
        $several = count($parts) > 1;
        foreach ($parts as $at => $part) {
            if (!is_string($part) && !is_int($part) && !is_bool($part)) {
                return null;
            }
            $part = is_bool($part) ? ($part ? '1' : '0') : (string) $part;
            $parts[$at] = $several
                ? str_replace('/', '%2F', preg_replace('/%(?=2F|25)/', '%25', $part)) : $part;
        }
        return implode('/', $parts);
    }

    /**
     * Bytes for the data of an event, as array('base64' => ...): of BINARY, BLOB and bytea
     * columns, whose bytes are no text. $value is a string, a stream, as PDO gives them of bytea,
     * or null, which stays null. A stream is read from its beginning where it can be.
     */
    public static function binary($value)
    {
        if (is_resource($value)) {
            $about = stream_get_meta_data($value);
            if ($about['seekable']) {
                rewind($value);
            }
            $value = stream_get_contents($value);
        }
        return $value === null ? null : array('base64' => base64_encode((string) $value));
    }

    /** Why the last call did not do all of its work; '' when it did. */
    public function error()
    {
        return $this->error;
    }

    /** For set_error_handler() only. */
    public static function ignoreError()
    {
        return true;
    }

    /** Call a method of this class so that nothing it does is seen on the page. */
    private function guard($method, $arguments)
    {
        $this->error = '';
        // The site's own error handler must not see, let alone show, a refused connection.
        set_error_handler(array('BridgeProducer', 'ignoreError'));
        $result = false;
        try {
            $result = call_user_func_array(array($this, $method), $arguments);
        } catch (Exception $e) {
            $this->note($e);
        } catch (Throwable $e) {
            $this->note($e);
        }
        restore_error_handler();
        return $result;
    }

    /** Keep the first error of a call. */
    private function note($e)
    {
        if ($this->error === '') {
            $known = $e instanceof BridgeProducerError;
            $this->error = ($known ? '' : get_class($e) . ': ') . $e->getMessage();
        }
    }

    private function publishAll($events, $spool)
    {
        $bodies = array();
        foreach ($events as $event) {
            // One event that cannot be published is no reason to lose the others.
            try {
                $fields = array_pad(array_values($event), 5, null);
                $bodies[] = $this->events->event($fields);
                $this->wrote($fields);
            } catch (Exception $e) {
                $this->note($e);
            } catch (Throwable $e) {
                $this->note($e);
            }
        }
        return $this->deliver($bodies, $spool && $this->spool->isOn());
    }

    private function spoolAll($events)
    {
        $bodies = array();
        foreach ($events as $event) {
            $bodies[] = $this->events->event($event);
        }
        $this->spool->append($bodies);
        foreach ($events as $event) {
            $this->wrote($event);
        }
        return true;
    }

    /** An event, as publish() takes it, that the visitor must see. */
    private function wrote($event)
    {
        if (!$this->freshness->isOn()) {
            return;
        }
        list($entity, $key, $sequence) = $this->events->identity($event);
        $this->freshness->add($entity, $key, $sequence, time(), true);
    }

    private function freshnessToken($later)
    {
        foreach ($later as $event) {
            $this->wrote(array_pad(array_values($event), 4, null));
        }
        // It is called after the commit, so nothing of it can be rolled back any more.
        $this->freshness->keep();
        $cookie = isset($_COOKIE[BridgeProducerFreshness::COOKIE])
            ? $_COOKIE[BridgeProducerFreshness::COOKIE] : '';
        $token = $this->freshness->token($cookie, time());
        if ($this->freshness->late) {
            $this->note(new BridgeProducerError('the cookie is not set: output has begun already'));
        }
        return $token;
    }

    private function enqueueOne($db, $event)
    {
        $body = $this->events->event($event);
        $payload = $this->events->asciiState();
        $key = $this->events->text((string) $event[2]);
        $this->outbox->insert($db, $event[0], $key, $event[0] . '.' . $event[1], $payload,
            (string) $event[3], $this->fast ? self::HEAD_START_MS : null);
        $this->freshness->add($event[0], $key, (string) $event[3], time(), false);
        $size = BridgeProducerBytes::length($body);
        if ($this->fast && $this->rememberedBytes + $size <= self::MAX_REMEMBERED_BYTES) {
            $this->remembered[] = $body;
            $this->rememberedBytes += $size;
        }
        return true;
    }

    /** Bring events to Redis, or else to the spool; returns how many of them got there. */
    private function deliver($bodies, $spool)
    {
        if (!$bodies) {
            return 0;
        }
        $before = $this->error;
        $left = $bodies;
        if ($this->isBroken()) {
            $this->note(new BridgeProducerError('Redis did not answer a moment ago; not tried'));
        } else {
            try {
                $this->redis->add($bodies);
            } catch (BridgeProducerDown $e) {
                $this->note($this->breakCircuit($e));
            } catch (BridgeProducerError $e) {
                // An error reply, LOADING and OOM too, came at once: the next try costs no more
                // than a connection, and the sooner it is made the better. So no breaker.
                $this->note($e);
            }
            $left = $this->redis->left;
        }
        if ($left && $spool) {
            try {
                $this->spool->append($left);
                $left = array();
                $this->error = $before;
            } catch (BridgeProducerError $e) {
                $this->error .= '; ' . $e->getMessage();
            }
        }
        return count($bodies) - count($left);
    }

    private function isBroken()
    {
        $since = $this->downSince;
        if ($this->breakerFile !== '') {
            clearstatcache();
            if (file_exists($this->breakerFile)) {
                $since = max((int) $since, (int) filemtime($this->breakerFile));
            }
        }
        $age = time() - (int) $since;
        // A time in the future comes from a clock that was set back; it must not last.
        return $since !== null && $age >= 0 && $age < self::BREAKER_SECONDS;
    }

    private function breakCircuit($e)
    {
        $this->downSince = time();
        if ($this->breakerFile !== '' && !touch($this->breakerFile)) {
            return new BridgeProducerError(
                $e->getMessage() . ' (and the breaker file cannot be written)'
            );
        }
        return $e;
    }
}

/** What went wrong, in words for error(). */
class BridgeProducerError extends Exception
{
}

/** Redis cannot be reached, or does not answer in time. */
class BridgeProducerDown extends BridgeProducerError
{
}

/** The event and its JSON. */
class BridgeProducerEvents
{
    /** The longest event, in bytes of JSON, where nothing else is said. */
    const MAX_EVENT_BYTES = 1048576;
    const MAX_KEY_BYTES = 1024;
    /** Levels of nested arrays and objects in the data. */
    const MAX_DEPTH = 64;

    private $source;
    private $largest;
    private $state = null;

    public function __construct($source, $largest)
    {
        $this->source = $source;
        $this->largest = $largest;
    }

    /** array(entity, change, key, version, data) as CloudEvents JSON, or BridgeProducerError. */
    public function event($fields)
    {
        list($entity, $key, $sequence) = $this->identity($fields);
        $change = $fields[1];
        $data = $fields[4];
        $event = '{"specversion":"1.0","id":' . $this->quote(BridgeProducerBytes::unique())
            . ',"source":' . $this->quote($this->source)
            . ',"type":' . $this->quote($entity . '.' . $change)
            . ',"subject":' . $this->quote($key)
            . ',"time":"' . gmdate('Y-m-d\TH:i:s\Z') . '"'
            . ',"datacontenttype":"application/json"'
            . ',"sequence":"' . $sequence . '","sequencetype":"Integer"';
        $this->state = $change === 'changed' ? $this->state($data) : null;
        if ($this->state !== null) {
            $event .= ',"data":' . $this->state;
        }
        $event .= '}';
        if (BridgeProducerBytes::length($event) > $this->largest) {
            throw new BridgeProducerError(
                "the event has more than {$this->largest} bytes; leave fields out, or raise the"
                . ' option max_event, and max_document in sync.yaml'
            );
        }
        return $event;
    }

    /** What an event is about: array(entity, key in UTF-8, version in digits). */
    public function identity($fields)
    {
        list($entity, $change, $key, $version) = $fields;
        if (!is_string($entity) || !preg_match('/^[a-z][a-z0-9_]{0,63}$/D', $entity)) {
            throw new BridgeProducerError('entity must be a name of a-z, 0-9 and _');
        }
        if ($change !== 'changed' && $change !== 'deleted') {
            throw new BridgeProducerError("change must be 'changed' or 'deleted'");
        }
        if (!is_string($key) && !is_int($key)) {
            throw new BridgeProducerError('key must be a string or an integer');
        }
        $key = $this->text((string) $key);
        if (BridgeProducerBytes::length($key) > self::MAX_KEY_BYTES) {
            throw new BridgeProducerError('key must have at most ' . self::MAX_KEY_BYTES . ' bytes');
        }
        // A string of digits too: databases give those, and 32-bit PHP has no larger integers.
        $sequence = is_int($version) || is_string($version) ? (string) $version : '';
        if (!preg_match('/^(0|[1-9][0-9]{0,18})$/D', $sequence)
            || (strlen($sequence) === 19 && strcmp($sequence, '9223372036854775807') > 0)) {
            throw new BridgeProducerError('version must be an integer from 0 to 2^63 - 1');
        }
        return array($entity, $key, $sequence);
    }

    /**
     * The state in the last event as JSON of ASCII alone, which arrives whatever charset a
     * connection has; null after a deletion.
     */
    public function asciiState()
    {
        if ($this->state === null) {
            return null;
        }
        $json = preg_replace_callback(
            '/[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}/',
            array('BridgeProducerEvents', 'escapeCharacter'),
            $this->state
        );
        if ($json === null) {
            throw new BridgeProducerError('the state is too long for pcre.backtrack_limit');
        }
        return $json;
    }

    /** For preg_replace_callback() only: one UTF-8 character as \uXXXX, or as two of them. */
    public static function escapeCharacter($match)
    {
        $bytes = array_values(unpack('C*', $match[0]));
        $count = count($bytes);
        $code = $bytes[0] & (0xFF >> ($count + 1));
        for ($i = 1; $i < $count; $i++) {
            $code = ($code << 6) | ($bytes[$i] & 0x3F);
        }
        if ($code < 0x10000) {
            return sprintf('\\u%04x', $code);
        }
        $code -= 0x10000;
        return sprintf('\\u%04x\\u%04x', 0xD800 | ($code >> 10), 0xDC00 | ($code & 0x3FF));
    }

    /** The state as a JSON object. */
    private function state($data)
    {
        if (is_object($data)) {
            $data = get_object_vars($data);
        }
        if (!is_array($data)) {
            throw new BridgeProducerError('data must be an array with names, or an object');
        }
        foreach ($data as $name => $value) {
            if (is_int($name)) {
                throw new BridgeProducerError('data must have names, not numbers such as ' . $name);
            }
            if (substr($name, 0, 1) === '_') {
                throw new BridgeProducerError(
                    'data.' . $name . ': names with _ at the start are taken'
                );
            }
        }
        return $this->object($data, 'data', 1);
    }

    // JSON, by hand: json_encode() of Latin-1 text is false, of 1.0 it is 1, and how many digits
    // of a float it writes depends on php.ini.

    /** Any value as JSON. */
    private function json($value, $where, $depth)
    {
        if ($value === null) {
            return 'null';
        }
        if (is_bool($value)) {
            return $value ? 'true' : 'false';
        }
        if (is_int($value)) {
            return (string) $value;
        }
        if (is_float($value)) {
            return $this->float($value, $where);
        }
        if (is_string($value)) {
            return $this->quote($value);
        }
        if ($depth > self::MAX_DEPTH) {
            throw new BridgeProducerError(
                $where . ' is nested deeper than ' . self::MAX_DEPTH . ' levels'
            );
        }
        if (is_array($value)) {
            $expected = 0;
            foreach ($value as $name => $ignored) {
                if ($name !== $expected++) {
                    return $this->object($value, $where, $depth);
                }
            }
            return $this->sequence($value, $where, $depth);
        }
        if ($value instanceof DateTime || $value instanceof DateTimeInterface) {
            $fraction = $value->format('u');
            $fraction = (int) $fraction === 0 ? '' : '.' . $fraction;
            return '"' . $value->format('Y-m-d\TH:i:s') . $fraction . $value->format('P') . '"';
        }
        if ($value instanceof JsonSerializable) {
            return $this->json($value->jsonSerialize(), $where, $depth + 1);
        }
        if (is_object($value)) {
            return $this->object(get_object_vars($value), $where, $depth);
        }
        throw new BridgeProducerError(
            $where . ' is a ' . gettype($value) . ', which JSON does not have'
        );
    }

    private function sequence($values, $where, $depth)
    {
        $parts = array();
        foreach ($values as $index => $value) {
            $parts[] = $this->json($value, $where . '[' . $index . ']', $depth + 1);
        }
        return '[' . implode(',', $parts) . ']';
    }

    private function object($values, $where, $depth)
    {
        $parts = array();
        foreach ($values as $name => $value) {
            $name = $this->text((string) $name);
            if (strpos($name, '$') === 0 || strpos($name, "\0") !== false) {
                throw new BridgeProducerError(
                    $where . ': names must not begin with $ nor hold a NUL'
                );
            }
            $json = $this->json($value, $where . '.' . $name, $depth + 1);
            $name = $this->quote($name);
            if (isset($parts[$name])) {
                throw new BridgeProducerError($where . ' has the name ' . $name . ' twice');
            }
            $parts[$name] = $name . ':' . $json;
        }
        return '{' . implode(',', $parts) . '}';
    }

    /** The shortest digits that read back as the same number; never without a point or exponent. */
    private function float($value, $where)
    {
        for ($digits = 15; $digits <= 17; $digits++) {
            $text = sprintf('%.' . $digits . 'G', $value);
            // In some locales the point is another character, even of several bytes.
            $text = preg_replace('/[^0-9E+-]+/', '.', $text);
            if ((float) $text === $value) {
                break;
            }
        }
        // Not is_nan(): it fails in a PHP that was compiled with the wrong options.
        if (!preg_match('/^-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?$/D', $text)) {
            throw new BridgeProducerError($where . ' is NAN or INF, which JSON does not have');
        }
        return strpbrk($text, '.E') === false ? $text . '.0' : $text;
    }

    private function quote($text)
    {
        static $escapes = null;
        if ($escapes === null) {
            $escapes = array('"' => '\\"', '\\' => '\\\\');
            for ($code = 0; $code < 32; $code++) {
                $escapes[chr($code)] = sprintf('\\u%04x', $code);
            }
        }
        return '"' . strtr($this->text($text), $escapes) . '"';
    }

    /** $text in valid UTF-8: bytes that are none are read as Windows-1252. */
    public function text($text)
    {
        if (preg_match('//u', $text)) {
            return $text;
        }
        $fixed = preg_replace_callback(
            '/[\x00-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]'
            . '|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]'
            . '|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}'
            . '|\xf4[\x80-\x8f][\x80-\xbf]{2}|([\x80-\xff])/',
            array('BridgeProducerEvents', 'fixByte'),
            $text
        );
        // Null where a limit of php.ini stopped it: then every byte is read as Windows-1252.
        return $fixed === null ? strtr($text, self::windows1252()) : $fixed;
    }

    /** For preg_replace_callback() only. */
    public static function fixByte($match)
    {
        if (!isset($match[1])) {
            return $match[0];
        }
        $map = self::windows1252();
        return $map[$match[1]];
    }

    /** Byte to UTF-8; the five bytes that Windows-1252 leaves open are read as ISO-8859-1. */
    private static function windows1252()
    {
        static $map = null;
        if ($map === null) {
            $codes = array(
                0x80 => 0x20AC, 0x82 => 0x201A, 0x83 => 0x0192, 0x84 => 0x201E, 0x85 => 0x2026,
                0x86 => 0x2020, 0x87 => 0x2021, 0x88 => 0x02C6, 0x89 => 0x2030, 0x8A => 0x0160,
                0x8B => 0x2039, 0x8C => 0x0152, 0x8E => 0x017D, 0x91 => 0x2018, 0x92 => 0x2019,
                0x93 => 0x201C, 0x94 => 0x201D, 0x95 => 0x2022, 0x96 => 0x2013, 0x97 => 0x2014,
                0x98 => 0x02DC, 0x99 => 0x2122, 0x9A => 0x0161, 0x9B => 0x203A, 0x9C => 0x0153,
                0x9E => 0x017E, 0x9F => 0x0178,
            );
            $map = array();
            for ($byte = 0x80; $byte <= 0xFF; $byte++) {
                $code = isset($codes[$byte]) ? $codes[$byte] : $byte;
                $map[chr($byte)] = $code < 0x800
                    ? chr(0xC0 | ($code >> 6)) . chr(0x80 | ($code & 0x3F))
                    : chr(0xE0 | ($code >> 12)) . chr(0x80 | (($code >> 6) & 0x3F))
                        . chr(0x80 | ($code & 0x3F));
            }
        }
        return $map;
    }
}

/** Events to the stream of the queue, all of a call within one deadline. */
class BridgeProducerRedis
{
    /** The events of the last add() that Redis did not confirm. */
    public $left = array();

    private $options;
    private $host;
    private $port;
    private $queue;
    private $timeout;

    private $deadline = 0.0;
    private $socket = null;
    private $buffer = '';

    public function __construct($options, $timeout)
    {
        $this->options = $options;
        $this->host = (string) $options['host'];
        $this->port = strpos($this->host, 'unix://') === 0 ? -1 : (int) $options['port'];
        $this->queue = (string) $options['queue'];
        $this->timeout = $timeout;
    }

    /** XADD for each of the events. Throws BridgeProducerDown or BridgeProducerError. */
    public function add($bodies)
    {
        $this->left = $bodies;
        $this->deadline = microtime(true) + $this->timeout;
        try {
            $client = (string) $this->options['client'];
            if ($this->options['redis'] !== null) {
                $this->addBy($this->options['redis'], $bodies, false);
            } elseif ($client === 'phpredis') {
                $this->addByPhpredis($bodies);
            } elseif ($client === 'predis') {
                $this->addByPredis($bodies);
            } elseif ($client === '') {
                $this->addBySocket($bodies);
            } else {
                throw new BridgeProducerError("client must be phpredis or predis, not '$client'");
            }
        } catch (Exception $e) {
            throw $this->translated($e);
        } catch (Throwable $e) {
            throw $this->translated($e);
        }
    }

    private static function isEntryId($reply)
    {
        return is_string($reply) && preg_match('/^[0-9]+-[0-9]+$/D', $reply);
    }

    /** AUTH and SELECT, by name, as far as the options need them. */
    private function greeting()
    {
        $commands = array();
        if ((string) $this->options['password'] !== '') {
            $commands['AUTH'] = array('AUTH', (string) $this->options['password']);
            if ((string) $this->options['username'] !== '') {
                array_splice($commands['AUTH'], 1, 0, (string) $this->options['username']);
            }
        }
        if ((int) $this->options['db'] !== 0) {
            $commands['SELECT'] = array('SELECT', (string) (int) $this->options['db']);
        }
        return $commands;
    }

    private function entry($body)
    {
        return array('XADD', $this->queue, '*', 'body', $body);
    }

    // With a client of the site's, or one that is installed.

    private function addByPhpredis($bodies)
    {
        if (!class_exists('Redis')) {
            throw new BridgeProducerError('the extension redis (phpredis) is not loaded');
        }
        $redis = new Redis();
        $failure = null;
        try {
            // Never pconnect(): after a timeout it reads the reply to another page's command.
            if (!$redis->connect($this->host, $this->port, $this->timeout)) {
                throw new BridgeProducerDown("no connection to {$this->host}:{$this->port}");
            }
            if (defined('Redis::OPT_MAX_RETRIES')) {
                $redis->setOption(constant('Redis::OPT_MAX_RETRIES'), 0);
            }
            foreach ($this->greeting() as $name => $words) {
                $redis->setOption(Redis::OPT_READ_TIMEOUT, $this->timeLeft());
                if (!call_user_func_array(array($redis, 'rawCommand'), $words)) {
                    $said = $redis->getLastError();
                    throw new BridgeProducerError("Redis refused $name: -$said");
                }
            }
            $this->addBy($redis, $bodies, true);
        } catch (Exception $e) {
            $failure = $e;
        }
        try {
            $redis->close();
        } catch (Exception $e) {
            // It is gone already.
        }
        if ($failure !== null) {
            throw $failure;
        }
    }

    private function addByPredis($bodies)
    {
        $class = 'Predis\\Client';
        if (!class_exists($class)) {
            throw new BridgeProducerError('Predis is not installed, or not found by an autoloader');
        }
        $server = array(
            'timeout' => $this->timeout, 'read_write_timeout' => $this->timeout,
            'database' => (int) $this->options['db'],
        );
        $server += $this->port === -1
            ? array('scheme' => 'unix', 'path' => substr($this->host, 7))
            : array('host' => $this->host, 'port' => $this->port);
        foreach (array('username', 'password') as $name) {
            if ((string) $this->options[$name] !== '') {
                $server[$name] = (string) $this->options[$name];
            }
        }
        $client = new $class($server);
        $failure = null;
        try {
            $this->addBy($client, $bodies, true);
        } catch (Exception $e) {
            $failure = $e;
        }
        $client->disconnect();
        if ($failure !== null) {
            throw $failure;
        }
    }

    /** One XADD after the other; $own tells that the connection was made for this call. */
    private function addBy($client, $bodies, $own)
    {
        // Raw commands: neither a serializer nor a key prefix of the site's object applies.
        $predis = is_object($client) && method_exists($client, 'executeRaw');
        if (!$predis && !(is_object($client) && $client instanceof Redis)) {
            throw new BridgeProducerError('option redis must be a Redis or Predis\Client object');
        }
        $refusal = '';
        foreach ($bodies as $index => $body) {
            if ($own && microtime(true) > $this->deadline) {
                throw new BridgeProducerDown('Redis did not answer in time');
            }
            if ($predis) {
                $isError = false;
                $reply = $client->executeRaw($this->entry($body), $isError);
                $said = is_scalar($reply) ? (string) $reply : gettype($reply);
            } else {
                if ($own) {
                    $client->setOption(Redis::OPT_READ_TIMEOUT, $this->timeLeft());
                }
                $reply = call_user_func_array(array($client, 'rawCommand'), $this->entry($body));
                $said = is_object($reply)
                    ? 'the object is within MULTI or a pipeline' : (string) $client->getLastError();
            }
            if (self::isEntryId($reply)) {
                unset($this->left[$index]);
            } elseif ($refusal === '') {
                $refusal = "Redis refused XADD: -$said";
            }
        }
        if ($refusal !== '') {
            throw new BridgeProducerError($refusal);
        }
    }

    /** Seconds until the deadline, never 0, which stands for no limit. */
    private function timeLeft()
    {
        $left = min($this->timeout, $this->deadline - microtime(true));
        if ($left <= 0) {
            throw new BridgeProducerDown('Redis did not answer in time');
        }
        return $left;
    }

    /** An exception of a client: an error reply begins with a code in capitals. */
    private function translated($e)
    {
        if ($e instanceof BridgeProducerError) {
            return $e;
        }
        $text = $e->getMessage();
        // Predis puts words of its own before it: `AUTH` failed: WRONGPASS …
        return preg_match('/^(`[A-Z]+` failed: )?[A-Z][A-Z0-9]+( |$)/D', $text)
            ? new BridgeProducerError('Redis refused XADD: -' . $text)
            : new BridgeProducerDown('Redis: ' . $text);
    }

    // With our own socket.

    private function addBySocket($bodies)
    {
        $failure = null;
        try {
            $this->connect();
            $greeting = $this->greeting();
            $request = '';
            foreach ($greeting as $words) {
                $request .= $this->command($words);
            }
            $this->send($request);
            // Its reply must be there first: otherwise events could go to another database.
            foreach (array_keys($greeting) as $name) {
                $reply = $this->readReply();
                if ($reply !== '+OK') {
                    throw new BridgeProducerError("Redis refused $name: $reply");
                }
            }
            $this->addAll($bodies);
        } catch (BridgeProducerError $e) {
            $failure = $e;
        }
        if ($this->socket) {
            fclose($this->socket);
            $this->socket = null;
        }
        if ($failure !== null) {
            throw $failure;
        }
    }

    private function addAll($bodies)
    {
        $request = '';
        foreach ($bodies as $body) {
            $request .= $this->command($this->entry($body));
            if (BridgeProducerBytes::length($request) > 65536) {
                $this->send($request);
                $request = '';
            }
        }
        $this->send($request);
        $refusal = '';
        foreach (array_keys($bodies) as $index) {
            $reply = $this->readReply();
            if ($reply[0] === '$' && self::isEntryId((string) substr($reply, 1))) {
                unset($this->left[$index]);
            } elseif ($refusal === '') {
                $refusal = "Redis refused XADD: $reply";
            }
        }
        if ($refusal !== '') {
            throw new BridgeProducerError($refusal);
        }
    }

    private function connect()
    {
        $this->buffer = '';
        $number = 0;
        $text = '';
        $socket = fsockopen($this->host, $this->port, $number, $text, $this->timeout);
        if (!$socket) {
            throw new BridgeProducerDown("no connection to {$this->host}:{$this->port}: $text");
        }
        // Blocking writes know no timeout in PHP.
        stream_set_blocking($socket, 0);
        $this->socket = $socket;
    }

    private function command($words)
    {
        $request = '*' . count($words) . "\r\n";
        foreach ($words as $word) {
            $request .= '$' . BridgeProducerBytes::length($word) . "\r\n" . $word . "\r\n";
        }
        return $request;
    }

    private function send($request)
    {
        $length = BridgeProducerBytes::length($request);
        for ($sent = 0; $sent < $length; $sent += $count) {
            $this->waitFor('write');
            $count = fwrite($this->socket, BridgeProducerBytes::slice($request, $sent, 65536));
            if (!$count) {
                throw new BridgeProducerDown('Redis closed the connection');
            }
        }
    }

    /** One reply with its type in front: +OK, -ERR …, :1, or $ and the bulk string itself. */
    private function readReply()
    {
        $line = $this->read(null);
        if (!preg_match('/^([+-].*|:-?[0-9]+|\$-1|\$[0-9]{1,4})$/Ds', $line)) {
            throw new BridgeProducerDown('this is no Redis; it said ' . substr($line, 0, 100));
        }
        if ($line[0] !== '$' || $line === '$-1') {
            return $line;
        }
        return '$' . $this->read((int) substr($line, 1));
    }

    /** The next $length bytes and the line end after them, or a line; without the line end. */
    private function read($length)
    {
        while (true) {
            $end = $length === null ? strpos($this->buffer, "\r\n") : $length;
            $have = BridgeProducerBytes::length($this->buffer);
            if ($end !== false && $have >= $end + 2) {
                $text = BridgeProducerBytes::slice($this->buffer, 0, $end);
                $this->buffer = (string) BridgeProducerBytes::slice($this->buffer, $end + 2, $have);
                return $text;
            }
            if ($have > 65536) {
                throw new BridgeProducerDown('this is no Redis');
            }
            $this->waitFor('read');
            $chunk = fread($this->socket, 8192);
            if ($chunk === false || $chunk === '') {
                // Some PHPs (WebAssembly) say too early that there is something to read.
                if ($chunk === false || feof($this->socket)) {
                    throw new BridgeProducerDown('Redis closed the connection');
                }
                usleep(200);
            }
            $this->buffer .= $chunk;
        }
    }

    private function waitFor($what)
    {
        // The clock may be set back meanwhile: never wait for longer than the whole budget.
        $left = min($this->timeout, $this->deadline - microtime(true));
        $seconds = (int) floor($left);
        $read = $what === 'read' ? array($this->socket) : null;
        $write = $what === 'write' ? array($this->socket) : null;
        $except = null;
        if ($left > 0 && stream_select(
            $read, $write, $except, $seconds, (int) (($left - $seconds) * 1000000)
        )) {
            return;
        }
        throw new BridgeProducerDown('Redis did not answer in time');
    }
}

/**
 * The spool: files of lines, one event each, in a directory of this machine.
 *
 * Writers append to current.spool under a lock. It is renamed, under the same lock, by the
 * reader or when it has grown; what has another name than current.spool is never written again.
 */
class BridgeProducerSpool
{
    const FILE = 'current.spool';
    /** A file that is longer than this, in bytes, gets its final name. */
    const MAX_FILE_BYTES = 16777216;

    private $directory;
    private $timeout;

    public function __construct($directory, $timeout)
    {
        $this->directory = $directory === '/' ? $directory : rtrim($directory, '/');
        $this->timeout = $timeout;
    }

    public function isOn()
    {
        return $this->directory !== '';
    }

    /** Append events, all or none of them. Throws BridgeProducerError. */
    public function append($bodies)
    {
        if (!$this->isOn()) {
            throw new BridgeProducerError('the option spool_dir is not set');
        }
        clearstatcache();
        // Two first pages may both find it missing: only one that is still not there is an error.
        if (!is_dir($this->directory) && !mkdir($this->directory, 0770, true)) {
            clearstatcache();
            if (!is_dir($this->directory)) {
                throw new BridgeProducerError("cannot make the directory {$this->directory}");
            }
        }
        $lines = implode("\n", $bodies) . "\n";
        $path = $this->directory . '/' . self::FILE;
        $file = $this->locked($path);
        if ($file === null) {
            // Somebody holds the lock for too long, or another user made the file unwritable:
            // a file of our own, which appears under its final name when it is complete.
            $this->writeApart($lines);
            return;
        }
        $written = $this->write($file, $lines);
        $about = fstat($file);
        if ($about['size'] > self::MAX_FILE_BYTES) {
            rename($path, $this->finalName());
        }
        flock($file, LOCK_UN);
        fclose($file);
        if (!$written) {
            throw new BridgeProducerError("cannot write to $path: is the disk full?");
        }
    }

    /** current.spool, open and locked, or null. */
    private function locked($path)
    {
        $deadline = microtime(true) + $this->timeout;
        do {
            $file = fopen($path, 'a+b');
            if (!$file) {
                return null;
            }
            // Not a blocking lock: the page must not hang on a writer that was stopped.
            while (!($held = flock($file, LOCK_EX | LOCK_NB)) && $this->isBefore($deadline)) {
                usleep(500);
            }
            if (!$held) {
                fclose($file);
                return null;
            }
            // Renamed between fopen() and flock(): what is written to it now, nobody reads.
            clearstatcache();
            $mine = fstat($file);
            $there = stat($path);
            if ($there && $mine['ino'] === $there['ino'] && $mine['dev'] === $there['dev']) {
                if ($mine['size'] === 0) {
                    chmod($path, 0660);
                }
                return $file;
            }
            fclose($file);
        } while ($this->isBefore($deadline));
        return null;
    }

    private function isBefore($deadline)
    {
        $left = $deadline - microtime(true);
        // More than the whole budget: the clock was set back.
        return $left > 0 && $left <= $this->timeout;
    }

    /** Append to a locked file; true when all of it is there. */
    private function write($file, $lines)
    {
        $about = fstat($file);
        $size = $about['size'];
        if ($size > 0) {
            // The last writer was cut off: its torn line must not swallow this one.
            fseek($file, -1, SEEK_END);
            if (fread($file, 1) !== "\n") {
                $lines = "\n" . $lines;
            }
            fseek($file, 0, SEEK_END);
        }
        $length = BridgeProducerBytes::length($lines);
        for ($done = 0; $done < $length; $done += $count) {
            $count = fwrite($file, $done === 0
                ? $lines : BridgeProducerBytes::slice($lines, $done, $length));
            if (!$count) {
                ftruncate($file, $size);
                return false;
            }
        }
        if (!fflush($file)) {
            ftruncate($file, $size);
            return false;
        }
        return true;
    }

    private function writeApart($lines)
    {
        $final = $this->finalName();
        $draft = $final . '.tmp';
        $file = fopen($draft, 'xb');
        if (!$file) {
            throw new BridgeProducerError("cannot write in the directory {$this->directory}");
        }
        chmod($draft, 0660);
        $written = $this->write($file, $lines);
        fclose($file);
        if (!$written || !rename($draft, $final)) {
            unlink($draft);
            throw new BridgeProducerError(
                "cannot write in the directory {$this->directory}: is the disk full?"
            );
        }
    }

    private function finalName()
    {
        $random = substr(BridgeProducerBytes::unique(), 0, 16);
        return $this->directory . '/' . time() . '-' . $random . '.spool';
    }
}

/** One row in the outbox table, in the transaction of the caller. */
class BridgeProducerOutbox
{
    private $table;

    public function __construct($table)
    {
        $this->table = $table;
    }

    /**
     * $key is UTF-8, all else is ASCII. $headStart: milliseconds until the relay may look at the
     * row, null for at once. Throws BridgeProducerError, or what $db throws.
     */
    public function insert($db, $entity, $key, $type, $payload, $version, $headStart)
    {
        if (!preg_match('/^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$/D', $this->table)) {
            throw new BridgeProducerError('outbox_table must be a name of letters, digits and _');
        }
        $dialect = $this->dialect($db);
        $mark = '?';
        if (preg_match('/[\x80-\xff]/', $key) && isset(self::$fromHex[$dialect])) {
            // The connection may be in Latin-1, and would read the bytes of UTF-8 as such.
            $mark = self::$fromHex[$dialect];
            $key = bin2hex($key);
        }
        // By the clock of the database: those of web servers differ, and the relay has another.
        $now = isset(self::$clock[$dialect])
            ? self::$clock[$dialect] : sprintf('%.0f', microtime(true) * 1000);
        $next = $headStart === null ? '0' : "$now + $headStart";
        $sql = "INSERT INTO {$this->table} (aggregatetype, aggregateid, type, payload, ver,"
            . " created_at, next_try) VALUES (?, $mark, ?, ?, ?, $now, $next)";
        if ($dialect === 'mysqli') {
            $this->insertByMysqli($db, $sql, $entity, $key, $type, $payload, $version);
            return;
        }
        $statement = $db->prepare($sql);
        if (!$statement) {
            throw new BridgeProducerError($this->reason($db->errorInfo()));
        }
        // The version as a string: on 32-bit PHP it may be no number, and every database takes
        // digits for a BIGINT.
        if (!$statement->execute(array($entity, $key, $type, $payload, $version))) {
            throw new BridgeProducerError($this->reason($statement->errorInfo()));
        }
    }

    private static $fromHex = array(
        'mysql' => 'CONVERT(UNHEX(?) USING utf8mb4)',
        'mysqli' => 'CONVERT(UNHEX(?) USING utf8mb4)',
        'pgsql' => "convert_from(decode(?, 'hex'), 'UTF8')",
    );

    /** Milliseconds since 1970, the same one in all of a statement. */
    private static $clock = array(
        // Not UNIX_TIMESTAMP(NOW(3)): an hour of the night in autumn is there twice.
        'mysql' => '(UNIX_TIMESTAMP() * 1000 + MICROSECOND(NOW(3)) DIV 1000)',
        'mysqli' => '(UNIX_TIMESTAMP() * 1000 + MICROSECOND(NOW(3)) DIV 1000)',
        'pgsql' => 'CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)',
        'sqlite' => "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    );

    private function dialect($db)
    {
        if ($db instanceof PDO) {
            return (string) $db->getAttribute(PDO::ATTR_DRIVER_NAME);
        }
        if ($db instanceof mysqli) {
            return 'mysqli';
        }
        throw new BridgeProducerError('the database handle must be a PDO or a mysqli object');
    }

    private function insertByMysqli($db, $sql, $entity, $key, $type, $payload, $version)
    {
        $statement = $db->prepare($sql);
        if (!$statement) {
            throw new BridgeProducerError('the outbox: ' . $db->error);
        }
        $statement->bind_param('sssss', $entity, $key, $type, $payload, $version);
        $done = $statement->execute();
        $reason = 'the outbox: ' . $statement->error;
        $statement->close();
        if (!$done) {
            throw new BridgeProducerError($reason);
        }
    }

    private function reason($info)
    {
        return 'the outbox: ' . (isset($info[2]) ? $info[2] : 'SQLSTATE ' . $info[0]);
    }
}

/**
 * The signed cookie that tells the bridge what its visitor just wrote. Its format, and what reads
 * it, is in bridge/sync/tokens.py; README.md has it too.
 */
class BridgeProducerFreshness
{
    const COOKIE = 'bv';
    const MAX_ENTRIES = 8;
    /** The longest token, in bytes. */
    const MAX_BYTES = 3500;
    /** Seconds that an entry counts. */
    const LIFETIME = 30;
    /** Seconds by which clocks may differ. */
    const SKEW = 30;

    private $id = '';
    private $secret = '';
    private $wrong = '';
    private $cookie;
    private $sent = '';
    /** Whether the last token was made too late to set the cookie. */
    public $late = false;
    /** Entries, the newest first: array(entity, key, version, time). */
    private $kept = array();
    /** The same, of a transaction that may yet be rolled back. */
    private $pending = array();

    public function __construct($key, $cookie)
    {
        $this->cookie = array_merge(array(
            'path' => '/', 'domain' => '', 'secure' => null, 'httponly' => true,
            'samesite' => 'Lax',
        ), $cookie);
        if ($key === '') {
            return;
        }
        // Never the key itself in a message: it may be the secret alone.
        if (!preg_match('/^([a-z0-9]{1,16}):([^ \t\r\n]+)$/D', $key, $found)) {
            $this->wrong = 'freshness_key must be id:secret, the id of a-z and 0-9';
        } elseif (self::characters($found[2]) < 16) {
            $this->wrong = 'the secret in freshness_key needs 16 characters at least';
        } elseif (!function_exists('hash_hmac')) {
            $this->wrong = 'freshness() needs the extension hash';
        } else {
            list(, $this->id, $this->secret) = $found;
        }
    }

    public function isOn()
    {
        return $this->id !== '';
    }

    /** $final: nothing can roll it back any more. */
    public function add($entity, $key, $version, $time, $final)
    {
        if ($this->id === '') {
            return;
        }
        $entry = array($entity, $key, $version, $time);
        if ($final) {
            $this->kept = self::newest(array_merge(array($entry), $this->kept));
        } else {
            $this->pending = self::newest(array_merge(array($entry), $this->pending));
        }
    }

    public function keep()
    {
        if ($this->pending) {
            $this->kept = self::newest(array_merge($this->pending, $this->kept));
            $this->pending = array();
        }
    }

    public function forget()
    {
        $this->pending = array();
    }

    /** The token of what was kept and of $cookie at $now; it is given to the visitor. */
    public function token($cookie, $now)
    {
        if ($this->wrong !== '') {
            throw new BridgeProducerError($this->wrong);
        }
        if ($this->id === '') {
            return '';
        }
        $own = array();
        foreach ($this->kept as $entry) {
            if (self::counts($entry, $now)) {
                $own[] = $entry;
            }
        }
        $token = $this->sign(array_merge($own, $this->verify($cookie, $now)));
        $this->late = $own && $token !== $this->sent && headers_sent();
        if ($own && $token !== $this->sent && !$this->late) {
            // By hand: setcookie() has SameSite only since PHP 7.3.
            header($this->header($token), false);
            $this->sent = $token;
        }
        return $token;
    }

    /** The token of the newest of these entries that fit, '' without any. */
    public function sign($entries)
    {
        $texts = array();
        foreach (self::newest($entries) as $entry) {
            list($entity, $key, $version, $time) = $entry;
            $texts[] = $entity . '.' . self::base64($key) . '.' . $version . '.' . $time;
        }
        while ($texts) {
            $text = '1~' . $this->id . '~' . implode('~', $texts);
            if (strlen($text) + 44 <= self::MAX_BYTES) {
                return $text . '~' . $this->signature($text);
            }
            array_pop($texts);
        }
        return '';
    }

    /** The entries of a token that count at $now; none of what is no sound token of this key. */
    public function verify($token, $now)
    {
        $entries = array();
        if (!is_string($token) || strlen($token) > self::MAX_BYTES || !preg_match(
            '/^(1~' . $this->id . '~([A-Za-z0-9_.~-]+))~([A-Za-z0-9_-]{43})$/D', $token, $found
        ) || !self::same($this->signature($found[1]), $found[3])) {
            return $entries;
        }
        $texts = explode('~', $found[2]);
        if (count($texts) > self::MAX_ENTRIES) {
            return $entries;
        }
        foreach ($texts as $text) {
            if (!preg_match('/^([a-z][a-z0-9_]{0,63})\.([A-Za-z0-9_-]{2,1366}|)'
                . '\.(0|[1-9][0-9]{0,18})\.([0-9]{1,11})$/D', $text, $parts)) {
                continue;
            }
            $key = base64_decode(strtr($parts[2], '-_', '+/'));
            $entry = array($parts[1], $key, $parts[3], $parts[4]);
            if (self::isKey($key, $parts[2]) && self::counts($entry, $now)
                && self::compare($parts[3], '9223372036854775807') <= 0) {
                $entries[] = $entry;
            }
        }
        return self::newest($entries);
    }

    private static function isKey($key, $text)
    {
        return is_string($key) && preg_match('//u', $key)
            && BridgeProducerBytes::length($key) <= BridgeProducerEvents::MAX_KEY_BYTES
            && self::base64($key) === $text;
    }

    private static function counts($entry, $now)
    {
        // As floats: on 32-bit PHP the digits may stand for more than an integer holds.
        $age = (float) $now - (float) $entry[3];
        return $age >= -self::SKEW && $age <= self::LIFETIME + self::SKEW;
    }

    /** One entry for each entity and key, the highest version; newest first, at most 8. */
    private static function newest($entries)
    {
        $best = array();
        foreach ($entries as $entry) {
            $name = $entry[0] . '.' . $entry[1];
            if (isset($best[$name])) {
                $order = self::compare($entry[2], $best[$name][2]);
                if ($order < 0 || ($order === 0 && (float) $entry[3] <= (float) $best[$name][3])) {
                    continue;
                }
            }
            $best[$name] = $entry;
        }
        // Not sort(): among equal times the order must stay.
        $sorted = array();
        foreach ($best as $entry) {
            $at = count($sorted);
            while ($at > 0 && (float) $sorted[$at - 1][3] < (float) $entry[3]) {
                $at--;
            }
            array_splice($sorted, $at, 0, array($entry));
        }
        return array_slice($sorted, 0, self::MAX_ENTRIES);
    }

    /** Versions as digits, which may be more than an integer holds. */
    private static function compare($one, $other)
    {
        $longer = strlen($one) - strlen($other);
        $order = $longer !== 0 ? $longer : strcmp($one, $other);
        return $order === 0 ? 0 : ($order < 0 ? -1 : 1);
    }

    private function signature($text)
    {
        return self::base64(hash_hmac('sha256', $text, $this->secret, true));
    }

    private static function base64($bytes)
    {
        return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    }

    /** In a time that tells nothing of where they differ; both have 43 characters. */
    private static function same($one, $other)
    {
        $difference = 0;
        for ($at = 0; $at < 43; $at++) {
            $difference |= ord($one[$at]) ^ ord($other[$at]);
        }
        return $difference === 0;
    }

    private static function characters($text)
    {
        // Of UTF-8, as Python counts them.
        return preg_match_all('/[^\x80-\xbf]/', $text, $ignored);
    }

    private function header($token)
    {
        $header = 'Set-Cookie: ' . self::COOKIE . '=' . $token . '; Max-Age=' . self::LIFETIME;
        foreach (array('path' => 'Path', 'domain' => 'Domain', 'samesite' => 'SameSite')
            as $option => $name) {
            $value = (string) $this->cookie[$option];
            if (preg_match('/[^\x21-\x3a\x3c-\x7e]/', $value)) {
                throw new BridgeProducerError("freshness_cookie: $option cannot be sent in a cookie");
            }
            $header .= $value === '' ? '' : '; ' . $name . '=' . $value;
        }
        $secure = $this->cookie['secure'];
        if ($secure === null) {
            $secure = self::byHttps();
        }
        return $header . ($this->cookie['httponly'] ? '; HttpOnly' : '')
            . ($secure ? '; Secure' : '');
    }

    /** Whether the visitor came by HTTPS; behind a proxy that one says so. */
    private static function byHttps()
    {
        $https = isset($_SERVER['HTTPS']) ? strtolower((string) $_SERVER['HTTPS']) : '';
        $forwarded = isset($_SERVER['HTTP_X_FORWARDED_PROTO'])
            ? strtolower((string) $_SERVER['HTTP_X_FORWARDED_PROTO']) : '';
        return ($https !== '' && $https !== 'off') || $forwarded === 'https';
    }
}

/** Bytes, also where mbstring.func_overload makes strlen() and substr() count characters. */
class BridgeProducerBytes
{
    public static function length($bytes)
    {
        return function_exists('mb_strlen') ? mb_strlen($bytes, '8bit') : strlen($bytes);
    }

    public static function slice($bytes, $start, $length)
    {
        return function_exists('mb_substr')
            ? mb_substr($bytes, $start, $length, '8bit') : substr($bytes, $start, $length);
    }

    /** 32 hexadecimal digits that nobody else has. */
    public static function unique()
    {
        if (function_exists('random_bytes')) {
            return bin2hex(random_bytes(16));
        }
        return md5(uniqid(mt_rand(), true) . getmypid() . serialize($_SERVER));
    }
}
