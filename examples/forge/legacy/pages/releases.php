<?php
/* The releases of one project, newest first, a page at a time. */

define('RELEASES_PER_PAGE', 10);

$project = find_project($name);
$number = asked_page();
$releases = array();
if ($project !== null && $number !== null) {
    $releases = db_rows(sprintf(
        'SELECT * FROM releases WHERE project = ? ORDER BY published DESC, version, architecture LIMIT %d OFFSET %d',
        RELEASES_PER_PAGE + 1,
        ($number - 1) * RELEASES_PER_PAGE
    ), array($project['name']));
}
if ($project === null || (count($releases) === 0 && $number !== 1)) {
    not_found_page();
    return;
}
$more = count($releases) > RELEASES_PER_PAGE;
$address = '/project/' . rawurlencode($project['name']);
$files = '/download/' . rawurlencode($project['name']) . '/';

page_head('Releases of ' . $project['name']);
?>
<h1>Releases of <a href="<?php echo $address ?>"><?php echo h($project['name']) ?></a></h1>
<table>
<tr><th>Release</th><th>Architecture</th><th>File</th><th>Bytes</th><th>Published</th><th>SHA-256</th></tr>
<?php foreach (array_slice($releases, 0, RELEASES_PER_PAGE) as $row) { ?>
<tr><td><?php echo h($row['version']) ?></td><td><?php echo h($row['architecture']) ?></td><td><a href="<?php echo $files, rawurlencode($row['filename']) ?>"><?php echo h($row['filename']) ?></a></td><td class="number"><?php echo show_number($row['size']) ?></td><td><?php echo show_time($row['published']) ?></td><td><code><?php echo h(substr($row['sha256'], 0, 16)) ?></code></td></tr>
<?php } ?>
</table>
<p class="pages">
<?php if ($number > 1) { ?>
<a href="<?php echo $address ?>/releases?p=<?php echo $number - 1 ?>">Previous page</a>
<?php } ?>
Page <?php echo show_number($number), "\n" ?>
<?php if ($more) { ?>
<a href="<?php echo $address ?>/releases?p=<?php echo $number + 1 ?>">Next page</a>
<?php } ?>
</p>
<?php
page_foot();
