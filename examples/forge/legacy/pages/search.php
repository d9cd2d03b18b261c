<?php
/* Projects with the words in their name or summary. */

define('SEARCH_LIMIT', 50);

$asked = isset($_GET['q']) ? $_GET['q'] : '';
if (!is_string($asked) || !mb_check_encoding($asked, 'UTF-8')) {
    $asked = '';
}
$asked = trim(mb_substr($asked, 0, 100, 'UTF-8'));
$found = array();
if ($asked !== '') {
    $pattern = '%' . addcslashes(mb_strtolower($asked, 'UTF-8'), '\\%_') . '%';
    // The escape character is bound, not written: MariaDB and SQLite read '\' in a literal differently.
    $found = db_rows(sprintf(
        'SELECT name, summary FROM projects WHERE name LIKE ? ESCAPE ? OR LOWER(summary) LIKE ? ESCAPE ? ORDER BY name LIMIT %d',
        SEARCH_LIMIT
    ), array($pattern, '\\', $pattern, '\\'));
}

page_head('Search');
?>
<h1>Search</h1>
<form action="/search" method="get"><input type="text" name="q" size="40" value="<?php echo h($asked) ?>"> <input type="submit" value="Search"></form>
<?php if ($asked !== '') { ?>
<p><?php echo show_number(count($found)) ?> found<?php echo count($found) === SEARCH_LIMIT ? ' and perhaps more' : '' ?>.</p>
<?php } ?>
<ul>
<?php foreach ($found as $row) { ?>
<li><a href="/project/<?php echo rawurlencode($row['name']) ?>"><?php echo h($row['name']) ?></a> – <?php echo h($row['summary']) ?></li>
<?php } ?>
</ul>
<?php
page_foot();
