<?php
/* The list of projects by name, a page at a time. */

define('PROJECTS_PER_PAGE', 25);

$number = asked_page();
$projects = array();
if ($number !== null) {
    // One row more than is shown tells whether there is a next page.
    $projects = db_rows(sprintf(
        'SELECT name, summary, version, updated FROM projects ORDER BY name LIMIT %d OFFSET %d',
        PROJECTS_PER_PAGE + 1,
        ($number - 1) * PROJECTS_PER_PAGE
    ));
}
if (count($projects) === 0 && $number !== 1) {
    not_found_page();
    return;
}
$more = count($projects) > PROJECTS_PER_PAGE;

page_head($number === 1 ? 'Projects' : 'Projects, page ' . $number);
?>
<h1>Projects</h1>
<table>
<tr><th>Project</th><th>Version</th><th>Updated</th><th>Summary</th></tr>
<?php foreach (array_slice($projects, 0, PROJECTS_PER_PAGE) as $row) { ?>
<tr><td><a href="/project/<?php echo rawurlencode($row['name']) ?>"><?php echo h($row['name']) ?></a></td><td><?php echo h($row['version']) ?></td><td><?php echo show_time($row['updated']) ?></td><td><?php echo h($row['summary']) ?></td></tr>
<?php } ?>
</table>
<p class="pages">
<?php if ($number > 1) { ?>
<a href="/projects?p=<?php echo $number - 1 ?>">Previous page</a>
<?php } ?>
Page <?php echo show_number($number), "\n" ?>
<?php if ($more) { ?>
<a href="/projects?p=<?php echo $number + 1 ?>">Next page</a>
<?php } ?>
</p>
<?php
page_foot();
