<?php
/*
 * A small bulletin board in the manner of 2005: everything in one file, queries put together as
 * strings, no transactions, a latin1 connection that carries the UTF-8 of the pages. It answers
 * POST ?mode=… with "OK …"; a query that fails ends it with status 500 and what the database said.
 */
error_reporting(E_ALL);
mysqli_report(MYSQLI_REPORT_OFF);

$db = mysqli_init();
$db->real_connect('127.0.0.1', 'root', '', getenv('BOARD_DATABASE'), (int) getenv('BOARD_PORT'));
$db->set_charset('latin1');
query("SET sql_mode = ''");

function query($sql)
{
	global $db;
	$result = $db->query($sql);
	if ($result === false) {
		message_die("$db->errno $db->error IN $sql");
	}
	return $result;
}

function row($sql)
{
	return query($sql)->fetch_assoc();
}

function message_die($text)
{
	error_log($text);
	header('HTTP/1.0 500 General Error');
	exit("General Error: $text");
}

/* A text as it comes from the page. */
function text($name, $default = '')
{
	global $db;
	return "'" . $db->real_escape_string(isset($_POST[$name]) ? $_POST[$name] : $default) . "'";
}

/* A name: users are from before the pages were UTF-8. */
function name_of($name)
{
	global $db;
	$latin = mb_convert_encoding($_POST[$name], 'Windows-1252', 'UTF-8');
	return "'" . $db->real_escape_string($latin) . "'";
}

function bytes_of($value)
{
	global $db;
	return "'" . $db->real_escape_string($value) . "'";
}

function number($name, $default = 0)
{
	return isset($_POST[$name]) ? (int) $_POST[$name] : $default;
}

function hex_ip()
{
	return "'" . bin2hex(inet_pton($_SERVER['REMOTE_ADDR'])) . "'";
}

function install()
{
	global $db;
	$db->multi_query(file_get_contents(__DIR__ . '/phpbb.sql'));
	do {
		if ($db->errno) {
			message_die("$db->errno $db->error");
		}
	} while ($db->more_results() && ($db->next_result() || $db->errno));
	query("INSERT INTO board_users (user_id, username, username_clean, user_level) VALUES
		(-1, 'Anonymous', 'anonymous', 0), (2, 'admin', 'admin', 1)");
	query("INSERT INTO board_forums (forum_id, forum_name, forum_desc) VALUES
		(1, 'Grüße', 'Say hello – here'), (2, 'Café & <b>Bar</b>', NULL), (3, '', '')");
	query("INSERT INTO board_config VALUES ('sitename', 'Böard'), ('board_startdate', '1110000000'),
		('rand_seed', '0'), ('path/with/slashes', '%2F'), ('', 'no name')");
	query("INSERT INTO board_log VALUES (1, -1, '0000-00-00 00:00:00', 'install', NULL)");
	return '';
}

/* Ids of users are counted by hand. */
function register()
{
	$id = max(3, 1 + (int) row('SELECT MAX(user_id) AS top FROM board_users')['top']);
	$name = name_of('name');
	query("INSERT INTO board_users (user_id, username, username_clean, user_password, user_regdate,
		user_birthday, user_timezone, user_money, user_karma, user_gender, user_flags, user_options,
		user_notify, user_ip, user_sig) VALUES ($id, $name, LOWER($name), MD5(" . text('password') . '), '
		. time() . ', ' . text('birthday', '0000-00-00') . ', ' . text('timezone', '0') . ', '
		. text('money', '0') . ', ' . text('karma', '0') . ', ' . text('gender') . ', '
		. text('flags') . ', ' . number('options') . ', ' . number('notify') . ', '
		. bytes_of(inet_pton($_POST['ip'])) . ', ' . text('signature') . ')');
	return $id;
}

function login()
{
	$user = number('user');
	$id = md5(uniqid('', true));
	$now = time();
	query("REPLACE INTO board_sessions VALUES ('$id', $user, $now, $now, " . hex_ip() . ', 0, 1)');
	query("REPLACE INTO board_sessions VALUES ('$id', $user, $now, $now, " . hex_ip() . ', -1, 1)');
	query("INSERT INTO board_session_keys VALUES (MD5('key of $user'), $user, "
		. bytes_of(inet_pton($_SERVER['REMOTE_ADDR'])) . ", $now)
		ON DUPLICATE KEY UPDATE last_login = VALUES(last_login) + 1");
	query("UPDATE board_users SET user_lastvisit = NOW() WHERE user_id = $user");
	return $id;
}

function logout_all()
{
	query('DELETE FROM board_sessions');
	query('DELETE FROM board_session_keys WHERE last_login < ' . time() . ' ORDER BY key_id LIMIT 2');
	return '';
}

function submit_post()
{
	global $db;
	$topic = number('topic');
	$forum = number('forum', 1);
	$user = number('user', -1);
	$now = time();
	if (!$topic) {
		query("INSERT INTO board_topics (forum_id, topic_title, topic_poster, topic_time, topic_type)
			VALUES ($forum, " . text('subject') . ", $user, $now, " . text('type', 'normal') . ')');
		$topic = $db->insert_id;
	}
	query("INSERT INTO board_posts (topic_id, forum_id, poster_id, post_time, poster_ip, post_username)
		VALUES ($topic, $forum, $user, $now, " . hex_ip() . ', ' . ($user < 0 ? text('guest') : 'NULL') . ')');
	$post = $db->insert_id;
	query("INSERT INTO board_posts_text VALUES ($post, SUBSTRING(MD5(RAND()), 1, 10), "
		. text('subject') . ', ' . text('text') . ', UNHEX(MD5(' . text('text') . ')))');
	query("UPDATE board_forums f, board_topics t, board_users u
		SET f.forum_posts = f.forum_posts + 1, f.forum_last_post_id = $post,
			t.topic_replies = t.topic_replies + 1, t.topic_last_post_id = $post,
			u.user_posts = u.user_posts + 1
		WHERE f.forum_id = $forum AND t.topic_id = $topic AND u.user_id = $user");
	add_search_words($post);
	query("INSERT INTO board_topics_track VALUES ($user, $topic, $now)
		ON DUPLICATE KEY UPDATE mark_time = $now");
	query("INSERT INTO board_topics_watch VALUES ($topic, $user, 0)");
	query("INSERT INTO board_log (log_user, log_time, log_action, log_data)
		VALUES ($user, NOW(), 'post', " . text('subject') . ')');
	return "$topic $post";
}

function add_search_words($post)
{
	global $db;
	$words = array();
	foreach (preg_split('/[\s.,:;"\'()<>\[\]]+/', $_POST['text'], -1, PREG_SPLIT_NO_EMPTY) as $word) {
		$words[] = bytes_of(substr($word, 0, 50));
	}
	query('INSERT IGNORE INTO board_search_words (word_text) VALUES (' . implode('), (', $words) . ')');
	query("INSERT INTO board_search_matches SELECT $post, word_id, 0 FROM board_search_words
		WHERE word_text IN (" . implode(', ', $words) . ')');
}

function edit_post()
{
	$post = number('post');
	query("UPDATE board_posts SET post_edited = NOW(), post_edit_count = post_edit_count + 1
		WHERE post_id = $post");
	query("REPLACE INTO board_posts_text (post_id, post_subject, post_text) VALUES ($post, "
		. text('subject') . ', ' . text('text') . ')');
	query("DELETE FROM board_search_matches WHERE post_id = $post");
	add_search_words($post);
	return $post;
}

function delete_post()
{
	$post = number('post');
	query("DELETE p, t FROM board_posts p LEFT JOIN board_posts_text t ON t.post_id = p.post_id
		WHERE p.post_id = $post");
	query("DELETE w FROM board_search_words w LEFT JOIN board_search_matches m
		ON m.word_id = w.word_id AND m.post_id <> $post WHERE m.word_id IS NULL");
	query("DELETE FROM board_search_matches WHERE post_id = $post");
	return $post;
}

/* A topic goes to another forum and leaves a shadow. */
function move_topic()
{
	global $db;
	$topic = number('topic');
	$forum = number('forum');
	query("INSERT INTO board_topics (forum_id, topic_title, topic_poster, topic_time, topic_status,
		topic_moved_id) SELECT forum_id, topic_title, topic_poster, topic_time, 'moved', topic_id
		FROM board_topics WHERE topic_id = $topic");
	$shadow = $db->insert_id;
	query("UPDATE board_topics t, board_posts p SET t.forum_id = $forum, p.forum_id = $forum
		WHERE t.topic_id = $topic AND p.topic_id = t.topic_id");
	return $shadow;
}

/* All of a topic becomes a part of another one; who has read both has a row too many. */
function merge_topics()
{
	$from = number('from');
	$to = number('to');
	query("UPDATE board_posts SET topic_id = $to WHERE topic_id = $from");
	query("UPDATE IGNORE board_topics_track SET topic_id = $to WHERE topic_id = $from");
	query("DELETE FROM board_topics_track WHERE topic_id = $from");
	query("UPDATE IGNORE board_topics_watch SET topic_id = $to WHERE topic_id = $from");
	query("DELETE FROM board_topics WHERE topic_id = $from");
	return '';
}

function vote()
{
	$topic = number('topic');
	$option = number('option');
	query("INSERT INTO board_votes VALUES ($topic, $option, " . text('text') . ', 1)
		ON DUPLICATE KEY UPDATE vote_result = vote_result + 1');
	query("UPDATE board_topics SET topic_vote = 1 WHERE topic_id = $topic");
	return '';
}

function ban()
{
	foreach (explode(' ', $_POST['ips']) as $ip) {
		query('INSERT IGNORE INTO board_banlist VALUES (' . bytes_of(inet_pton($ip)) . ', 32, '
			. text('email') . ', ' . text('end', '0000-00-00 00:00:00') . ')');
	}
	query("UPDATE board_users SET user_banned_until = '2038-01-19 03:14:08' WHERE user_id = " . number('user'));
	return '';
}

function unban()
{
	query('DELETE FROM board_banlist WHERE ban_ip = ' . bytes_of(inet_pton($_POST['ips'])));
	return '';
}

function attach()
{
	global $db;
	$file = file_get_contents($_FILES['file']['tmp_name']);
	query('INSERT INTO board_attachments (post_id, filename, filesize, rating, thumbnail) VALUES ('
		. number('post') . ', ' . bytes_of($_FILES['file']['name']) . ', ' . text('size') . ', '
		. text('rating') . ', ' . bytes_of($file) . ')');
	$id = $db->insert_id;
	query("UPDATE board_attachments SET download_count = download_count + 1 WHERE attach_id = $id");
	return $id;
}

function put_event()
{
	query('REPLACE INTO board_events VALUES (' . text('date') . ', ' . number('no') . ', '
		. text('time') . ', ' . text('length') . ', ' . text('year') . ', ' . text('title') . ', '
		. text('fee') . ')');
	query('UPDATE board_events SET event_no = event_no + 1000 WHERE event_date = ' . text('date')
		. ' ORDER BY event_no DESC');
	return '';
}

function grant()
{
	query('INSERT IGNORE INTO board_auth_access VALUES (' . number('group') . ', ' . number('forum')
		. ', ' . text('option') . ', 1)');
	return '';
}

function configure()
{
	query('REPLACE INTO board_config VALUES (' . text('name') . ', ' . text('value') . ')');
	query("UPDATE board_config SET config_value = config_value + 1 WHERE config_name = 'rand_seed'");
	return '';
}

/* The name of a setting is its key. */
function rename_setting()
{
	query('UPDATE board_config SET config_name = ' . text('to') . ' WHERE config_name = ' . text('from'));
	return '';
}

/* Forums get new numbers, in whatever they are mentioned. */
function renumber()
{
	query('UPDATE board_forums SET forum_id = forum_id + 100 ORDER BY forum_id DESC');
	query('UPDATE board_topics SET forum_id = forum_id + 100');
	query('UPDATE board_posts SET forum_id = forum_id + 100');
	query('UPDATE board_auth_access SET forum_id = forum_id + 100 WHERE forum_id > 0');
	return '';
}

/* Two users change names, which are unique. */
function swap_names()
{
	$one = number('one');
	$other = number('other');
	$names = row("SELECT a.username_clean AS mine, b.username_clean AS yours
		FROM board_users a, board_users b WHERE a.user_id = $one AND b.user_id = $other");
	query("UPDATE board_users SET username_clean = CONCAT('~', username_clean) WHERE user_id = $one");
	query('UPDATE board_users SET username_clean = ' . bytes_of($names['mine']) . " WHERE user_id = $other");
	query('UPDATE board_users SET username_clean = ' . bytes_of($names['yours']) . " WHERE user_id = $one");
	return '';
}

function prune()
{
	query('DELETE t, p, x FROM board_topics t LEFT JOIN board_posts p ON p.topic_id = t.topic_id
		LEFT JOIN board_posts_text x ON x.post_id = p.post_id WHERE t.forum_id = ' . number('forum'));
	query('DELETE FROM board_topics_watch WHERE notify_status = 0 LIMIT 1');
	query('DELETE FROM board_users WHERE user_id > 2 AND user_posts = 0');
	return '';
}

$modes = array('install', 'register', 'login', 'logout_all', 'submit_post', 'edit_post', 'delete_post',
	'move_topic', 'merge_topics', 'vote', 'ban', 'unban', 'attach', 'put_event', 'grant', 'configure',
	'rename_setting', 'renumber', 'swap_names', 'prune');
$mode = isset($_GET['mode']) ? $_GET['mode'] : '';
if (!in_array($mode, $modes)) {
	message_die("no such mode: $mode");
}
header('Content-Type: text/plain; charset=utf-8');
echo 'OK ' . $mode();
