-- A bulletin board of 2005, written by hand in the manner of those that were common then: one
-- charset (latin1) for everything, unsigned counters, zero dates, Unix seconds, flags as
-- tinyint(1), enums and sets, tables without a primary key, search tables in MyISAM, sessions in
-- memory. Pages are sent as UTF-8 over a latin1 connection, so the texts of the visitors lie
-- encoded twice in it; names of users are from a time when the board was in latin1.
SET NAMES latin1;
SET sql_mode = '';

CREATE TABLE board_users (
  user_id mediumint(8) NOT NULL,
  user_active tinyint(1) DEFAULT '1',
  username varchar(25) NOT NULL DEFAULT '',
  username_clean varchar(25) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL DEFAULT '',
  user_password char(32) NOT NULL DEFAULT '',
  user_regdate int(11) NOT NULL DEFAULT '0',
  user_lastvisit datetime NOT NULL DEFAULT '0000-00-00 00:00:00',
  user_banned_until datetime DEFAULT NULL,
  user_birthday date NOT NULL DEFAULT '0000-00-00',
  user_level tinyint(4) DEFAULT '0',
  user_posts mediumint(8) unsigned NOT NULL DEFAULT '0',
  user_timezone decimal(5,2) NOT NULL DEFAULT '0.00',
  user_money decimal(20,4) DEFAULT NULL,
  user_karma float NOT NULL DEFAULT '0',
  user_gender enum('','m','f','größer') NOT NULL DEFAULT '',
  user_flags set('mail','im','sig','html','hidden') NOT NULL DEFAULT '',
  user_options bit(10) NOT NULL DEFAULT b'0',
  user_notify bit(1) NOT NULL DEFAULT b'1',
  user_ip varbinary(16) NOT NULL DEFAULT '',
  user_sig text,
  user_touched timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (user_id),
  UNIQUE KEY username_clean (username_clean),
  KEY user_regdate (user_regdate)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_forums (
  forum_id smallint(5) unsigned NOT NULL,
  cat_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  forum_name varchar(150) DEFAULT NULL,
  forum_desc text,
  forum_status tinyint(4) NOT NULL DEFAULT '0',
  forum_order mediumint(8) unsigned NOT NULL DEFAULT '1',
  forum_posts mediumint(8) unsigned NOT NULL DEFAULT '0',
  forum_topics mediumint(8) unsigned NOT NULL DEFAULT '0',
  forum_last_post_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  prune_next int(11) DEFAULT NULL,
  prune_enable tinyint(1) NOT NULL DEFAULT '0',
  auth_view tinyint(2) NOT NULL DEFAULT '0',
  auth_post tinyint(2) NOT NULL DEFAULT '0',
  PRIMARY KEY (forum_id),
  KEY forums_order (forum_order)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_topics (
  topic_id mediumint(8) unsigned NOT NULL AUTO_INCREMENT,
  forum_id smallint(5) unsigned NOT NULL DEFAULT '0',
  topic_title char(60) NOT NULL DEFAULT '',
  topic_poster mediumint(8) NOT NULL DEFAULT '0',
  topic_time int(11) NOT NULL DEFAULT '0',
  topic_views mediumint(8) unsigned NOT NULL DEFAULT '0',
  topic_replies mediumint(8) unsigned NOT NULL DEFAULT '0',
  topic_status enum('open','locked','moved') NOT NULL DEFAULT 'open',
  topic_type enum('normal','sticky','announce') NOT NULL DEFAULT 'normal',
  topic_vote tinyint(1) NOT NULL DEFAULT '0',
  topic_last_post_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  topic_moved_id mediumint(8) unsigned DEFAULT NULL,
  PRIMARY KEY (topic_id),
  KEY forum_id (forum_id),
  KEY topic_last_post_id (topic_last_post_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_posts (
  post_id mediumint(8) unsigned NOT NULL AUTO_INCREMENT,
  topic_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  forum_id smallint(5) unsigned NOT NULL DEFAULT '0',
  poster_id mediumint(8) NOT NULL DEFAULT '0',
  post_time int(11) NOT NULL DEFAULT '0',
  poster_ip char(8) NOT NULL DEFAULT '',
  post_username varchar(25) DEFAULT NULL,
  enable_bbcode tinyint(1) NOT NULL DEFAULT '1',
  enable_html tinyint(1) NOT NULL DEFAULT '0',
  enable_sig tinyint(1) NOT NULL DEFAULT '1',
  post_edited datetime NOT NULL DEFAULT '0000-00-00 00:00:00',
  post_edit_count smallint(5) unsigned NOT NULL DEFAULT '0',
  PRIMARY KEY (post_id),
  KEY topic_id (topic_id),
  KEY post_time (post_time)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_posts_text (
  post_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  bbcode_uid varchar(10) NOT NULL DEFAULT '',
  post_subject varchar(60) DEFAULT NULL,
  post_text mediumtext,
  post_checksum binary(16) DEFAULT NULL,
  PRIMARY KEY (post_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

-- Words of posts: the word itself is the key, in MyISAM, without rollback.
CREATE TABLE board_search_words (
  word_text varchar(50) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL DEFAULT '',
  word_id mediumint(8) unsigned NOT NULL AUTO_INCREMENT,
  word_common tinyint(1) unsigned NOT NULL DEFAULT '0',
  PRIMARY KEY (word_text),
  KEY word_id (word_id)
) ENGINE=MyISAM DEFAULT CHARSET=latin1;

-- No key at all: a row is what it holds, and may be there twice.
CREATE TABLE board_search_matches (
  post_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  word_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  title_match tinyint(1) NOT NULL DEFAULT '0',
  KEY post_id (post_id),
  KEY word_id (word_id)
) ENGINE=MyISAM DEFAULT CHARSET=latin1;

CREATE TABLE board_topics_watch (
  topic_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  user_id mediumint(8) NOT NULL DEFAULT '0',
  notify_status tinyint(1) NOT NULL DEFAULT '0',
  KEY topic_id (topic_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_topics_track (
  user_id mediumint(8) NOT NULL,
  topic_id mediumint(8) unsigned NOT NULL,
  mark_time int(11) unsigned NOT NULL DEFAULT '0',
  PRIMARY KEY (user_id, topic_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

-- Lives as long as the server, by the engine.
CREATE TABLE board_sessions (
  session_id char(32) NOT NULL DEFAULT '',
  session_user_id mediumint(8) NOT NULL DEFAULT '0',
  session_start int(11) NOT NULL DEFAULT '0',
  session_time int(11) NOT NULL DEFAULT '0',
  session_ip char(8) NOT NULL DEFAULT '0',
  session_page int(11) NOT NULL DEFAULT '0',
  session_logged_in tinyint(1) NOT NULL DEFAULT '0',
  PRIMARY KEY (session_id),
  KEY session_user_id (session_user_id)
) ENGINE=MEMORY DEFAULT CHARSET=latin1;

CREATE TABLE board_session_keys (
  key_id char(32) NOT NULL DEFAULT '0',
  user_id mediumint(8) NOT NULL DEFAULT '0',
  last_ip varbinary(16) NOT NULL DEFAULT '0',
  last_login int(11) NOT NULL DEFAULT '0',
  PRIMARY KEY (key_id, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_config (
  config_name varchar(255) NOT NULL DEFAULT '',
  config_value varchar(255) NOT NULL DEFAULT '',
  PRIMARY KEY (config_name)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_auth_access (
  group_id mediumint(8) NOT NULL DEFAULT '0',
  forum_id smallint(5) unsigned NOT NULL DEFAULT '0',
  auth_option char(20) NOT NULL DEFAULT '',
  auth_mod tinyint(1) NOT NULL DEFAULT '0',
  PRIMARY KEY (group_id, forum_id, auth_option)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_banlist (
  ban_ip varbinary(16) NOT NULL,
  ban_mask tinyint(3) unsigned NOT NULL DEFAULT '32',
  ban_email varchar(100) DEFAULT NULL,
  ban_end datetime NOT NULL DEFAULT '0000-00-00 00:00:00',
  PRIMARY KEY (ban_ip, ban_mask)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_votes (
  vote_id mediumint(8) unsigned NOT NULL,
  vote_option tinyint(4) unsigned NOT NULL,
  vote_text varchar(255) NOT NULL DEFAULT '',
  vote_result int(11) unsigned NOT NULL DEFAULT '0',
  PRIMARY KEY (vote_id, vote_option)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_attachments (
  attach_id int(10) unsigned zerofill NOT NULL AUTO_INCREMENT,
  post_id mediumint(8) unsigned NOT NULL DEFAULT '0',
  filename varchar(255) NOT NULL DEFAULT '',
  filesize bigint(20) unsigned NOT NULL DEFAULT '0',
  download_count mediumint(8) unsigned NOT NULL DEFAULT '0',
  rating decimal(4,2) DEFAULT NULL,
  thumbnail mediumblob,
  PRIMARY KEY (attach_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

-- What owners of boards put in: a calendar.
CREATE TABLE board_events (
  event_date date NOT NULL DEFAULT '0000-00-00',
  event_no smallint(5) unsigned NOT NULL DEFAULT '0',
  event_time time NOT NULL DEFAULT '00:00:00',
  event_length time DEFAULT NULL,
  event_year year(4) NOT NULL DEFAULT '0000',
  event_title tinytext,
  event_fee double(10,2) NOT NULL DEFAULT '0.00',
  PRIMARY KEY (event_date, event_no)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

CREATE TABLE board_log (
  log_id bigint(20) unsigned NOT NULL AUTO_INCREMENT,
  log_user mediumint(8) NOT NULL DEFAULT '0',
  log_time timestamp NOT NULL DEFAULT '0000-00-00 00:00:00',
  log_action varchar(40) NOT NULL DEFAULT '',
  log_data text,
  PRIMARY KEY (log_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1 AUTO_INCREMENT=4294967290;
