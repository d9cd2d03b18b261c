<?php
/* A new release of a project, with its file. */

define('UPLOAD_LIMIT', 16 * 1024 * 1024);

if (!visitor_may_write('/upload')) {
    return;
}

$wrong = '';
$values = array('project' => '', 'version' => '', 'architecture' => 'all');

if ($method === 'POST') {
    $sent = isset($_SERVER['CONTENT_LENGTH']) ? (int) $_SERVER['CONTENT_LENGTH'] : 0;
    if (!$_POST && $sent > 0) {
        // PHP drops a body above post_max_size, and the token with it.
        error_page(413, 'Too large', 'The server takes no upload of this size.');
        return;
    }
    if (!form_is_genuine()) {
        return;
    }
    foreach ($values as $field => $value) {
        $values[$field] = (string) posted_text($field);
    }
    $file = isset($_FILES['file']) && is_string($_FILES['file']['name']) ? $_FILES['file'] : null;
    $project = find_project($values['project']);
    if ($project === null) {
        $wrong = 'There is no project of this name.';
    } elseif (!is_release_version($values['version']) || !is_architecture($values['architecture'])) {
        $wrong = 'Version and architecture may hold letters, digits and . + : ~ - _ only.';
    } elseif ($file === null || $file['error'] !== UPLOAD_ERR_OK) {
        $wrong = 'The file did not arrive, or is larger than the server takes.';
    } elseif (!is_release_filename($file['name']) || $file['size'] === 0 || $file['size'] > UPLOAD_LIMIT) {
        $wrong = 'The file needs a plain name and at most ' . show_number(UPLOAD_LIMIT) . ' bytes.';
    }
    if ($wrong === '') {
        $sha256 = hash_file('sha256', $file['tmp_name']);
        if (!move_uploaded_file($file['tmp_name'], upload_path($sha256))) {
            throw new RuntimeException('the uploaded file could not be kept');
        }
        try {
            db()->beginTransaction();
            db_query(
                'INSERT INTO releases (project, version, architecture, filename, size, sha256, published, ver) VALUES (?, ?, ?, ?, ?, ?, ?, 1)',
                array(
                    $project['name'], $values['version'], $values['architecture'], $file['name'],
                    $file['size'], $sha256, gmdate('Y-m-d\TH:i:s\Z'),
                )
            );
            $saved = find_release_by_filename($project['name'], $file['name']);
            record_change('release', $saved);
            db()->commit();
            publish_later('release', $saved);
            redirect('/project/' . rawurlencode($project['name']) . '/releases');
            return;
        } catch (PDOException $error) {
            db()->rollBack();
            // SQLSTATE class 23: the release or the file name is there already.
            if (strncmp((string) $error->getCode(), '23', 2) !== 0) {
                throw $error;
            }
            $wrong = 'This project has such a release or file already.';
        }
    }
}

page_head('Upload a release', $wrong === '' ? 200 : 422);
?>
<h1>Upload a release</h1>
<?php if ($wrong !== '') { ?>
<p class="wrong"><?php echo h($wrong) ?></p>
<?php } ?>
<form action="/upload" method="post" enctype="multipart/form-data">
<input type="hidden" name="token" value="<?php echo h(csrf_token()) ?>">
<?php foreach ($values as $field => $value) { ?>
<label for="<?php echo $field ?>"><?php echo h(ucfirst($field)) ?></label> <input type="text" id="<?php echo $field ?>" name="<?php echo $field ?>" value="<?php echo h($value) ?>">
<?php } ?>
<label for="file">File</label> <input type="file" id="file" name="file">
<p><input type="submit" value="Upload"></p>
</form>
<?php
page_foot();
