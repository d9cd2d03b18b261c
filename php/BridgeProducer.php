<?php
/**
 * Publishes change events to the bridge: one file, no extension, PHP 5.2 to 8.5.
 *
 *     $bridge = new BridgeProducer(array('host' => '127.0.0.1', 'source' => '/forge'));
 *     $bridge->publish('project', 'changed', $row['name'], $row['ver'], $row);
 *
 * It speaks to Redis by itself, over a connection of its own, and writes what Kombu's Redis
 * transport reads. It never throws into the page, never shows a warning on it, and takes at most
 * `timeout_ms` of waiting. What is guaranteed, and what is not: see README.md.
 *
 * The syntax is that of PHP 5.2 on purpose: no closures, no namespaces, no short arrays.
 */
class BridgeProducer
{
    /** Seconds without a try after Redis did not answer. */
    const BREAKER_SECONDS = 5;
    /** The longest event, in bytes of JSON; the Python side refuses a longer one. */
    const MAX_EVENT_BYTES = 1048576;
    const MAX_KEY_BYTES = 1024;
    /** Levels of nested arrays and objects in the data. */
    const MAX_DEPTH = 64;

    private $host;
    private $port;
    private $db;
    private $password;
    private $queue;
    private $source;
    private $breakerFile;
    private $timeout;

    private $error = '';
    private $downSince = null;
    private $socket = null;
    private $deadline = 0.0;
    private $buffer = '';
    private $reply = '';

    /**
     * Options, all optional:
     *
     * host          IP address of Redis, or a name from /etc/hosts: looking up any other name
     *               takes as long as it takes. Default 127.0.0.1.
     * port          default 6379.
     * db            number of the database, default 0.
     * password      default none.
     * queue         name of the queue, default bridge.events.
     * source        path or URL that names this site, default /site.
     * breaker_file  a file that PHP may create: while it is younger than 5 seconds no process
     *               tries to reach Redis. Without it only this object remembers a failure.
     * timeout_ms    the longest wait for Redis in one publish(), default 50.
     */
    public function __construct($options = array())
    {
        $defaults = array(
            'host' => '127.0.0.1', 'port' => 6379, 'db' => 0, 'password' => '',
            'queue' => 'bridge.events', 'source' => '/site', 'breaker_file' => '',
            'timeout_ms' => 50,
        );
        $options = array_merge($defaults, is_array($options) ? $options : array());
        $this->host = (string) $options['host'];
        $this->port = (int) $options['port'];
        $this->db = (int) $options['db'];
        $this->password = (string) $options['password'];
        $this->queue = (string) $options['queue'];
        $this->source = (string) $options['source'];
        $this->breakerFile = (string) $options['breaker_file'];
        $this->timeout = max(1, (int) $options['timeout_ms']) / 1000.0;
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
     * Returns true when Redis confirmed that the event is on the queue. After false it most
     * likely is not, and error() says why.
     */
    public function publish($entity, $change, $key, $version, $data = null)
    {
        $this->error = '';
        // The site's own error handler must not see, let alone show, a refused connection.
        set_error_handler(array('BridgeProducer', 'ignoreError'));
        $done = false;
        try {
            $done = $this->tryPublish($entity, $change, $key, $version, $data);
        } catch (Exception $e) {
            $this->error = get_class($e) . ': ' . $e->getMessage();
        } catch (Throwable $e) {
            $this->error = get_class($e) . ': ' . $e->getMessage();
        }
        $this->disconnect();
        restore_error_handler();
        return $done;
    }

    /** Why the last publish() returned false; '' after true. */
    public function error()
    {
        return $this->error;
    }

    /** For set_error_handler() only. */
    public static function ignoreError()
    {
        return true;
    }

    private function tryPublish($entity, $change, $key, $version, $data)
    {
        $event = $this->event($entity, $change, $key, $version, $data);
        if ($event === null) {
            return false;
        }
        if ($this->isBroken()) {
            return $this->fail('Redis did not answer a moment ago; not tried');
        }
        if (!$this->connect()) {
            return $this->breakCircuit();
        }
        if ($this->password !== '' && $this->command(array('AUTH', $this->password)) !== '+OK') {
            return $this->refused('AUTH');
        }
        // Its reply must be there first: otherwise the event could go to another database.
        if ($this->db !== 0 && $this->command(array('SELECT', (string) $this->db)) !== '+OK') {
            return $this->refused('SELECT');
        }
        $length = $this->command(array('LPUSH', $this->queue, $this->envelope($event)));
        if (!preg_match('/^:[1-9][0-9]*$/D', (string) $length)) {
            return $this->refused('LPUSH');
        }
        return true;
    }

    // What is sent.

    /** The event as CloudEvents JSON, or null with error() set. */
    private function event($entity, $change, $key, $version, $data)
    {
        if (!is_string($entity) || !preg_match('/^[a-z][a-z0-9_]{0,63}$/D', $entity)) {
            return $this->invalid('entity must be a name of a-z, 0-9 and _');
        }
        if ($change !== 'changed' && $change !== 'deleted') {
            return $this->invalid("change must be 'changed' or 'deleted'");
        }
        if (!is_string($key) && !is_int($key)) {
            return $this->invalid('key must be a string or an integer');
        }
        $key = $this->text((string) $key);
        if ($key === '' || $this->length($key) > self::MAX_KEY_BYTES) {
            return $this->invalid('key must have 1 to ' . self::MAX_KEY_BYTES . ' bytes');
        }
        // A string of digits too: databases give those, and 32-bit PHP has no larger integers.
        $sequence = is_int($version) || is_string($version) ? (string) $version : '';
        if (!preg_match('/^(0|[1-9][0-9]{0,18})$/D', $sequence)
            || (strlen($sequence) === 19 && strcmp($sequence, '9223372036854775807') > 0)) {
            return $this->invalid('version must be an integer from 0 to 2^63 - 1');
        }
        $event = '{"specversion":"1.0","id":' . $this->quote($this->uniqueId())
            . ',"source":' . $this->quote($this->source)
            . ',"type":' . $this->quote($entity . '.' . $change)
            . ',"subject":' . $this->quote($key)
            . ',"time":"' . gmdate('Y-m-d\TH:i:s\Z') . '"'
            . ',"datacontenttype":"application/json"'
            . ',"sequence":"' . $sequence . '","sequencetype":"Integer"';
        if ($change === 'changed') {
            $json = $this->state($data);
            if ($json === null) {
                return null;
            }
            $event .= ',"data":' . $json;
        }
        $event .= '}';
        if ($this->length($event) > self::MAX_EVENT_BYTES) {
            return $this->invalid('the event has more than ' . self::MAX_EVENT_BYTES . ' bytes');
        }
        return $event;
    }

    /** The state as a JSON object, or null with error() set. */
    private function state($data)
    {
        if (is_object($data)) {
            $data = get_object_vars($data);
        }
        if (!is_array($data)) {
            return $this->invalid('data must be an array with names, or an object');
        }
        foreach ($data as $name => $value) {
            if (is_int($name)) {
                return $this->invalid('data must have names, not numbers such as ' . $name);
            }
            if (substr($name, 0, 1) === '_') {
                return $this->invalid('data.' . $name . ': names with _ at the start are taken');
            }
        }
        return $this->object($data, 'data', 1);
    }

    /** What Kombu's Redis transport expects on the list. */
    private function envelope($event)
    {
        return '{"body":' . $this->quote($event)
            . ',"content-encoding":"utf-8","content-type":"application/json","headers":{}'
            . ',"properties":{"delivery_tag":' . $this->quote($this->uniqueId())
            . ',"delivery_mode":2,"priority":0,"delivery_info":{"exchange":"","routing_key":'
            . $this->quote($this->queue) . '}}}';
    }

    // JSON, by hand: json_encode() of Latin-1 text is false, of 1.0 it is 1, and how many digits
    // of a float it writes depends on php.ini.

    /** Any value as JSON, or null with error() set. */
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
            return $this->invalid($where . ' is nested deeper than ' . self::MAX_DEPTH . ' levels');
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
        return $this->invalid($where . ' is a ' . gettype($value) . ', which JSON does not have');
    }

    private function sequence($values, $where, $depth)
    {
        $parts = array();
        foreach ($values as $index => $value) {
            $json = $this->json($value, $where . '[' . $index . ']', $depth + 1);
            if ($json === null) {
                return null;
            }
            $parts[] = $json;
        }
        return '[' . implode(',', $parts) . ']';
    }

    private function object($values, $where, $depth)
    {
        $parts = array();
        foreach ($values as $name => $value) {
            $name = $this->text((string) $name);
            if (strpos($name, '$') === 0 || strpos($name, "\0") !== false) {
                return $this->invalid($where . ': names must not begin with $ nor hold a NUL');
            }
            $json = $this->json($value, $where . '.' . $name, $depth + 1);
            if ($json === null) {
                return null;
            }
            $name = $this->quote($name);
            if (isset($parts[$name])) {
                return $this->invalid($where . ' has the name ' . $name . ' twice');
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
            return $this->invalid($where . ' is NAN or INF, which JSON does not have');
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
    private function text($text)
    {
        if (preg_match('//u', $text)) {
            return $text;
        }
        $fixed = preg_replace_callback(
            '/[\x00-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]'
            . '|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]'
            . '|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}'
            . '|\xf4[\x80-\x8f][\x80-\xbf]{2}|([\x80-\xff])/',
            array('BridgeProducer', 'fixByte'),
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

    private function uniqueId()
    {
        if (function_exists('random_bytes')) {
            return bin2hex(random_bytes(16));
        }
        return md5(uniqid(mt_rand(), true) . getmypid() . serialize($_SERVER));
    }

    // Redis. Everything between connect() and disconnect() shares one deadline.

    private function connect()
    {
        $this->deadline = microtime(true) + $this->timeout;
        $this->buffer = '';
        $number = 0;
        $text = '';
        $socket = fsockopen($this->host, $this->port, $number, $text, $this->timeout);
        if (!$socket) {
            return $this->fail("no connection to {$this->host}:{$this->port}: $text");
        }
        // Blocking writes know no timeout in PHP.
        stream_set_blocking($socket, 0);
        $this->socket = $socket;
        return true;
    }

    private function disconnect()
    {
        if ($this->socket) {
            fclose($this->socket);
            $this->socket = null;
        }
    }

    /** Send one command; its reply in one line without the line end, or null with error() set. */
    private function command($words)
    {
        $request = '*' . count($words) . "\r\n";
        foreach ($words as $word) {
            $request .= '$' . $this->length($word) . "\r\n" . $word . "\r\n";
        }
        $this->reply = $this->send($request) ? $this->readLine() : null;
        return $this->reply;
    }

    private function send($request)
    {
        $length = $this->length($request);
        for ($sent = 0; $sent < $length; $sent += $count) {
            if (!$this->waitFor('write')) {
                return false;
            }
            $count = fwrite($this->socket, $this->slice($request, $sent, 65536));
            if (!$count) {
                return $this->fail('Redis closed the connection');
            }
        }
        return true;
    }

    private function readLine()
    {
        while (($end = strpos($this->buffer, "\r\n")) === false) {
            if (!$this->waitFor('read')) {
                return null;
            }
            $chunk = fread($this->socket, 4096);
            if ($chunk === false || $chunk === '') {
                return $this->invalid('Redis closed the connection');
            }
            $this->buffer .= $chunk;
            if ($this->length($this->buffer) > 65536) {
                return $this->invalid('this is no Redis');
            }
        }
        $line = substr($this->buffer, 0, $end);
        $this->buffer = (string) substr($this->buffer, $end + 2);
        return $line;
    }

    private function waitFor($what)
    {
        // The clock may be set back meanwhile: never wait for longer than the whole budget.
        $left = min($this->timeout, $this->deadline - microtime(true));
        $read = $what === 'read' ? array($this->socket) : null;
        $write = $what === 'write' ? array($this->socket) : null;
        $except = null;
        if ($left > 0 && stream_select($read, $write, $except, 0, (int) ($left * 1000000))) {
            return true;
        }
        return $this->fail('Redis did not answer in time');
    }

    // The breaker.

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

    private function breakCircuit()
    {
        $this->downSince = time();
        if ($this->breakerFile !== '' && !touch($this->breakerFile)) {
            $this->error .= ' (and the breaker file cannot be written)';
        }
        return false;
    }

    /** A command did not work. An error reply came at once and is no reason to stop trying. */
    private function refused($command)
    {
        if ($this->error !== '') {
            return $this->breakCircuit();
        }
        return $this->fail("Redis refused $command: " . $this->reply);
    }

    private function fail($error)
    {
        $this->error = $error;
        return false;
    }

    private function invalid($error)
    {
        $this->error = $error;
        return null;
    }

    // Bytes, also where mbstring.func_overload makes strlen() and substr() count characters.

    private function length($bytes)
    {
        return function_exists('mb_strlen') ? mb_strlen($bytes, '8bit') : strlen($bytes);
    }

    private function slice($bytes, $start, $length)
    {
        return function_exists('mb_substr')
            ? mb_substr($bytes, $start, $length, '8bit') : substr($bytes, $start, $length);
    }
}
