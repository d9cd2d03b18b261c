"""WordPress of Debian's package, as a real PHP program that edits its own tables.

A private copy of its code, because Debian's looks for its settings in /etc. It speaks with no
server but its database and itself, sends no mail, and does its timed work only when `wp-cron.php`
is asked for, so that a test knows when it is through.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import ClassVar

import requests

from stack.errors import BinaryMissing, ServerFailed
from stack.mariadb import MariaDB
from stack.php import PhpServer

__all__ = ["WordPress"]

CODE = Path("/usr/share/wordpress")
INSTALL = "apt-get install --no-install-recommends wordpress wordpress-theme-twentytwentythree"
_SALTS = ("AUTH", "SECURE_AUTH", "LOGGED_IN", "NONCE")
_CONFIGURATION = """\
<?php
define('DB_NAME', '@DATABASE@');
define('DB_USER', 'root');
define('DB_PASSWORD', '');
define('DB_HOST', '@ADDRESS@');
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
@SALTS@
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('DISABLE_WP_CRON', true);
define('WP_DEBUG', false);
$table_prefix = 'wp_';
if (!defined('ABSPATH')) {
    define('ABSPATH', __DIR__ . '/');
}
require_once ABSPATH . 'wp-settings.php';
"""


class WordPress(PhpServer):
    """WordPress behind `php -S`, with its tables in a database of a MariaDB that runs.

    directory: its code and uploads are in it. database: made by `install`, in place of one of that
    name. Both survive a restart.
    """

    name: ClassVar[str] = "wordpress"

    def __init__(
        self,
        directory: Path,
        mariadb: MariaDB,
        *,
        database: str = "wordpress",
        user: str = "admin",
        password: str = "secret, and long",
        port: int | None = None,
        workers: int = 4,
    ) -> None:
        home = Path(directory).resolve()
        super().__init__(
            home,
            home / "code",
            port=port,
            settings={
                "opcache.enable_cli": "1",
                "sendmail_path": "/bin/true",
                "display_errors": "0",
            },
            workers=workers,
        )
        self.mariadb, self.database = mariadb, database
        self.user, self.password = user, password

    def prepare(self) -> None:
        """Copy the code and write its configuration, once.

        Raises BinaryMissing when a package is missing.
        """
        super().prepare()
        if self.docroot.exists():
            return
        if not (CODE / "wp-content" / "themes" / "twentytwentythree").is_dir():
            raise BinaryMissing("wordpress", INSTALL)
        unfinished = self.directory / "code.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(CODE, unfinished, ignore=shutil.ignore_patterns(".htaccess"))
        salts = (f"define('{one}_{kind}', '{secrets.token_hex(32)}');"
                 for one in _SALTS for kind in ("KEY", "SALT"))  # fmt: skip
        text = _CONFIGURATION.replace("@SALTS@", "\n".join(salts))
        text = text.replace("@DATABASE@", self.database).replace("@ADDRESS@", self.mariadb.address)
        (unfinished / "wp-config.php").write_text(text, encoding="utf-8")
        unfinished.rename(self.docroot)

    def install(self, host: str = "") -> None:
        """Make its database, and fill in the form with which a site is set up.

        host: host:port of what visitors ask, where that is not this server; WordPress keeps it as
            the address of the site.

        Raises ServerFailed with the end of its answer.
        """
        self.mariadb.create_database(self.database)
        answer = requests.post(
            f"{self.url}/wp-admin/install.php?step=2",
            headers={"Host": host} if host else None,
            data={
                "weblog_title": "Forge – the blog",
                "user_name": self.user,
                "admin_password": self.password,
                "admin_password2": self.password,
                "admin_email": "admin@example.org",
                "blog_public": "0",
                "language": "",
            },
            timeout=60,
        )
        if answer.status_code != 200 or "wp-login.php" not in answer.text:
            raise ServerFailed(f"{self.name} was not installed: {answer.text[-2000:]}")
