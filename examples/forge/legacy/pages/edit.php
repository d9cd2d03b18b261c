<?php
/* Change what a project says about itself. */

$project = find_project($name);
if ($project === null) {
    not_found_page();
    return;
}
$address = '/project/' . rawurlencode($project['name']);
if (!visitor_may_write($address . '/edit')) {
    return;
}

/* field => label, longest text in characters */
$fields = array(
    'summary' => array('Summary', 255),
    'description' => array('Description', 60000),
    'section' => array('Section', 64),
    'homepage' => array('Homepage', 255),
    'maintainer' => array('Maintainer', 255),
    'license' => array('License', 64),
);
$wrong = array();
$values = array();
foreach ($fields as $field => $about) {
    $values[$field] = (string) $project[$field];
}

if ($method === 'POST') {
    if (!form_is_genuine()) {
        return;
    }
    foreach ($fields as $field => $about) {
        $text = posted_text($field);
        if ($text === null || mb_strlen($text, 'UTF-8') > $about[1]) {
            $wrong[] = $about[0] . ' must be text of at most ' . show_number($about[1]) . ' characters.';
        } else {
            $values[$field] = $text;
        }
    }
    if ($values['homepage'] !== '' && !is_web_address($values['homepage'])) {
        $wrong[] = 'Homepage must start with http:// or https://.';
    }
    if (!$wrong) {
        db()->beginTransaction();
        // The version is raised under the row lock: versions follow the order of commits.
        db_query(
            'UPDATE projects SET summary = ?, description = ?, section = ?, homepage = ?, maintainer = ?, license = ?,'
            . ' updated = ?, ver = ver + 1 WHERE name = ?',
            array(
                $values['summary'], $values['description'], $values['section'], $values['homepage'], $values['maintainer'],
                $values['license'] === '' ? null : $values['license'], gmdate('Y-m-d\TH:i:s\Z'), $project['name'],
            )
        );
        $saved = find_project($project['name']);
        record_change('project', $saved);
        db()->commit();
        publish_later('project', $saved);
        redirect($address);
        return;
    }
}

page_head('Edit ' . $project['name'], $wrong ? 422 : 200);
?>
<h1>Edit <a href="<?php echo $address ?>"><?php echo h($project['name']) ?></a></h1>
<?php foreach ($wrong as $message) { ?>
<p class="wrong"><?php echo h($message) ?></p>
<?php } ?>
<form action="<?php echo $address ?>/edit" method="post">
<input type="hidden" name="token" value="<?php echo h(csrf_token()) ?>">
<?php foreach ($fields as $field => $about) { ?>
<label for="<?php echo $field ?>"><?php echo h($about[0]) ?></label>
<?php if ($field === 'description') { ?>
<textarea id="description" name="description" rows="14" cols="80">
<?php echo h($values[$field]) ?></textarea>
<?php } else { ?>
<input class="wide" type="text" id="<?php echo $field ?>" name="<?php echo $field ?>" value="<?php echo h($values[$field]) ?>">
<?php } ?>
<?php } ?>
<p><input type="submit" value="Save"></p>
</form>
<?php
page_foot();
