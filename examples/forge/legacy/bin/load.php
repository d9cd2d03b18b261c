<?php
/*
 * Fills the database of the forge from Debian's metadata on this machine.
 *
 *     php load.php                  the installed packages: hundreds of projects
 *     php load.php --all            every package that apt knows: tens of thousands
 *     php load.php --from FILE      one file in the format of /var/lib/dpkg/status
 *
 * A source package becomes a project, its binary packages become the project's releases. What
 * is there already stays as it is, so it can run again at any time. Times, download counts and
 * files are not in that metadata: they are derived from names, the same on each run.
 */

error_reporting(E_ALL);
ini_set('memory_limit', '1G');
require dirname(__FILE__) . '/../include/config.php';
require dirname(__FILE__) . '/../include/db.php';
require dirname(__FILE__) . '/../include/files.php';

define('DPKG_STATUS', '/var/lib/dpkg/status');
define('APT_LISTS', '/var/lib/apt/lists/*_Packages*');
define('APT_HELPER', '/usr/lib/apt/apt-helper');
/* Releases are given times in the five years before this moment, 2025-01-01. */
define('NEWEST_RELEASE', 1735689600);
define('ROWS_PER_INSERT', 50);

/** Calls $take with each stanza of the file, an array of field => text with folded lines. */
function each_stanza($path, $take)
{
    // apt keeps its lists compressed (lz4, xz, gz) or plain; its own tool reads them all.
    $packed = preg_match('/_Packages\.[a-z0-9]+$/D', $path) === 1;
    $stream = $packed ? popen(APT_HELPER . ' cat-file ' . escapeshellarg($path), 'r') : @fopen($path, 'rb');
    if ($stream === false) {
        throw new RuntimeException('cannot read ' . $path);
    }
    $stanza = array();
    $field = '';
    while (($line = fgets($stream)) !== false) {
        $line = rtrim($line, "\n");
        if ($line === '') {
            if ($stanza) {
                call_user_func($take, $stanza);
            }
            $stanza = array();
        } elseif ($line[0] === ' ' || $line[0] === "\t") {
            $stanza[$field] .= "\n" . substr($line, 1);
        } else {
            list($field, $text) = explode(':', $line, 2);
            $stanza[$field] = trim($text);
        }
    }
    if ($stanza) {
        call_user_func($take, $stanza);
    }
    if (($packed ? pclose($stream) : (fclose($stream) ? 0 : 1)) !== 0) {
        throw new RuntimeException('cannot read ' . $path);
    }
}

/** Debian's long description: "." alone is an empty line. */
function description_text($folded)
{
    return preg_replace('/^\.$/m', '', $folded);
}

function clip($text, $characters)
{
    return mb_substr(mb_scrub($text, 'UTF-8'), 0, $characters, 'UTF-8');
}

/** Collects projects and releases from stanzas. */
class Catalogue
{
    public $projects = array();
    public $releases = array();
    private $filenames = array();

    public function take($stanza)
    {
        if (isset($stanza['Status']) && substr($stanza['Status'], -10) !== ' installed') {
            return;
        }
        $package = $stanza['Package'];
        $source = isset($stanza['Source']) ? preg_replace('/ .*$/Ds', '', $stanza['Source']) : $package;
        // The release is named after its package where that is not the project's own name, as
        // several packages come from one source in one version.
        $version = $package === $source ? $stanza['Version'] : $package . '_' . $stanza['Version'];
        $architecture = $stanza['Architecture'];
        $filename = $package . '_' . preg_replace('/^[0-9]+:/', '', $stanza['Version']) . '_' . $architecture . '.deb';
        $key = $source . '/' . $version . '/' . $architecture;
        $fits = is_project_name($source) && is_release_version($version)
            && is_architecture($architecture) && is_release_filename($filename);
        if (!$fits || isset($this->releases[$key]) || isset($this->filenames[$source . '/' . $filename])) {
            return;
        }
        $published = gmdate('Y-m-d\TH:i:s\Z', NEWEST_RELEASE - crc32($key) % 157766400);
        $this->filenames[$source . '/' . $filename] = true;
        $this->releases[$key] = array(
            'project' => $source,
            'version' => $version,
            'architecture' => $architecture,
            'filename' => $filename,
            'published' => $published,
        );
        $this->take_project($source, $package, $stanza, $published);
    }

    private function take_project($source, $package, $stanza, $published)
    {
        $size = isset($stanza['Installed-Size']) ? (int) $stanza['Installed-Size'] : 0;
        $known = isset($this->projects[$source]) ? $this->projects[$source] : null;
        // The package with the project's own name describes it best, else the first by name.
        $better = $known === null || ($known['package'] !== $source && ($package === $source || strcmp($package, $known['package']) < 0));
        if ($better) {
            $description = isset($stanza['Description']) ? explode("\n", $stanza['Description'], 2) : array('');
            $this->projects[$source] = array(
                'package' => $package,
                'name' => $source,
                'summary' => clip($description[0], 255),
                'description' => clip(isset($description[1]) ? description_text($description[1]) : $description[0], 60000),
                'section' => clip(isset($stanza['Section']) ? $stanza['Section'] : 'misc', 64),
                'homepage' => clip(isset($stanza['Homepage']) ? $stanza['Homepage'] : '', 255),
                'maintainer' => clip(isset($stanza['Maintainer']) ? $stanza['Maintainer'] : '', 255),
                'version' => $stanza['Version'],
                'size_kb' => 0,
                'updated' => $published,
                // Few projects are downloaded by everybody, most by few.
                'downloads' => (int) (5000000 / (1 + crc32('downloads of ' . $source) % 25000)),
                'license' => null,
            );
        }
        $now = &$this->projects[$source];
        $now['size_kb'] = $size + ($known === null ? 0 : $known['size_kb']);
        $now['updated'] = $known === null ? $published : max($published, $known['updated']);
    }
}

/** Insert rows, many in one statement. Every row has the same columns. */
function insert_rows($table, $rows)
{
    foreach (array_chunk($rows, ROWS_PER_INSERT) as $chunk) {
        $columns = array_keys($chunk[0]);
        $marks = '(' . implode(', ', array_fill(0, count($columns), '?')) . ')';
        $values = array();
        foreach ($chunk as $row) {
            foreach ($row as $value) {
                $values[] = $value;
            }
        }
        db_query(
            'INSERT INTO ' . $table . ' (' . implode(', ', $columns) . ') VALUES ' . implode(', ', array_fill(0, count($chunk), $marks)),
            $values
        );
    }
}

function make_tables()
{
    $dialect = db_is_sqlite(db()) ? 'sqlite' : 'mariadb';
    if ($dialect === 'sqlite') {
        // Readers must not wait for the one who writes.
        db()->exec('PRAGMA journal_mode = WAL');
    }
    foreach (explode(';', file_get_contents(dirname(__FILE__) . '/../schema/' . $dialect . '.sql')) as $statement) {
        if (trim($statement) !== '') {
            db()->exec($statement);
        }
    }
}

function sources_asked($arguments)
{
    if (!$arguments) {
        return array(DPKG_STATUS);
    }
    if ($arguments[0] === '--all' && count($arguments) === 1) {
        $lists = glob(APT_LISTS);
        if (!$lists) {
            throw new RuntimeException('apt has no package lists here: run apt-get update first');
        }
        return $lists;
    }
    if ($arguments[0] === '--from' && count($arguments) === 2) {
        return array($arguments[1]);
    }
    fwrite(STDERR, "usage: php load.php [--all | --from FILE]\n");
    exit(2);
}

function load($paths)
{
    $catalogue = new Catalogue();
    foreach ($paths as $path) {
        each_stanza($path, array($catalogue, 'take'));
    }

    make_tables();
    db()->beginTransaction();
    $held = array_flip(db_query('SELECT name FROM projects')->fetchAll(PDO::FETCH_COLUMN));
    $projects = array();
    foreach ($catalogue->projects as $project) {
        if (!isset($held[$project['name']])) {
            unset($project['package']);
            $projects[] = $project;
        }
    }
    $held = array();
    $files = array();
    foreach (db_query('SELECT project, version, architecture, filename FROM releases') as $row) {
        $held[$row['project'] . '/' . $row['version'] . '/' . $row['architecture']] = true;
        $files[$row['project'] . '/' . $row['filename']] = true;
    }
    $releases = array();
    foreach ($catalogue->releases as $key => $release) {
        if (!isset($held[$key]) && !isset($files[$release['project'] . '/' . $release['filename']])) {
            $release['size'] = generated_size($release['filename']);
            $release['sha256'] = hash('sha256', generated_bytes(
                $release['project'],
                $release['version'],
                $release['architecture'],
                $release['filename'],
                $release['size']
            ));
            $releases[] = $release;
        }
    }
    insert_rows('projects', $projects);
    insert_rows('releases', $releases);
    if (db_row('SELECT name FROM users WHERE name = ?', array('maintainer')) === null) {
        db_query('INSERT INTO users (name, password_hash) VALUES (?, ?)', array('maintainer', password_hash('secret', PASSWORD_BCRYPT)));
    }
    db()->commit();
    printf("%d projects and %d releases added\n", count($projects), count($releases));
}

load(sources_asked(array_slice($argv, 1)));
