<?php
/* One project. */

$project = find_project($name);
if ($project === null) {
    not_found_page();
    return;
}
$address = '/project/' . rawurlencode($project['name']);

page_head($project['name']);
?>
<h1><?php echo h($project['name']) ?></h1>
<p class="summary"><?php echo h($project['summary']) ?></p>
<pre><?php echo h($project['description']) ?></pre>
<table>
<tr><th>Version</th><td><?php echo h($project['version']) ?></td></tr>
<tr><th>Section</th><td><?php echo h($project['section']) ?></td></tr>
<tr><th>Maintainer</th><td><?php echo h($project['maintainer']) ?></td></tr>
<?php if (is_web_address($project['homepage'])) { ?>
<tr><th>Homepage</th><td><a href="<?php echo h($project['homepage']) ?>" rel="nofollow"><?php echo h($project['homepage']) ?></a></td></tr>
<?php } ?>
<?php if ((string) $project['license'] !== '') { ?>
<tr><th>License</th><td><?php echo h($project['license']) ?></td></tr>
<?php } ?>
<tr><th>Installed size</th><td><?php echo show_number($project['size_kb']) ?> KB</td></tr>
<tr><th>Downloads</th><td><?php echo show_number($project['downloads']) ?></td></tr>
<tr><th>Updated</th><td><?php echo show_time($project['updated']) ?></td></tr>
</table>
<p><a href="<?php echo $address ?>/releases">Releases and files</a> | <a href="<?php echo $address ?>/edit">Edit</a></p>
<?php
page_foot();
