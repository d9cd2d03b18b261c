"""MediaWiki of Debian's package, as a real PHP program that edits its own tables.

The code is served from where the package put it; settings, uploads and cache lie in a private
directory. It sends no mail, speaks with no server but its database, and runs its jobs only when
`maintenance` is told to, so that a test knows when it is through.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from stack.errors import BinaryMissing
from stack.mariadb import MariaDB
from stack.php import PhpServer, run_php

__all__ = ["MediaWiki"]

CODE = Path("/usr/share/mediawiki")
INSTALL = "apt-get install --no-install-recommends mediawiki"
_SETTINGS = """
$wgEnableUploads = true;
$wgUploadDirectory = '@HOME@/images';
$wgCacheDirectory = '@HOME@/cache';
$wgTmpDirectory = '@HOME@/tmp';
$wgDBerrorLog = '@HOME@/dberror.log';
$wgDebugLogGroups = [];
$wgUseImageMagick = false;
$wgEnableEmail = false;
$wgJobRunRate = 0;
$wgMainCacheType = CACHE_DB;
$wgPasswordPolicy['policies']['default'] = ['MinimalPasswordLength' => ['value' => 8]];
$wgWatchlistExpiry = true;
$wgRateLimits = [];
$wgGroupPermissions['sysop']['deleterevision'] = true;
$wgShowExceptionDetails = true;
"""


class MediaWiki(PhpServer):
    """MediaWiki behind `php -S`, with its tables in a database of a MariaDB that runs.

    directory: its settings and uploads are in it. database: made by `install`, in place of one of
    that name. Settings, database and uploads survive a restart.
    """

    name: ClassVar[str] = "mediawiki"

    def __init__(
        self,
        directory: Path,
        mariadb: MariaDB,
        *,
        database: str = "mediawiki",
        user: str = "Admin",
        password: str = "secret, and long",
        port: int | None = None,
        workers: int = 4,
    ) -> None:
        home = Path(directory).resolve()
        self.local_settings = home / "LocalSettings.php"
        super().__init__(
            home,
            CODE,
            port=port,
            env={"MW_CONFIG_FILE": str(self.local_settings)},
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
        """Make its folders. Raises BinaryMissing when the package is missing."""
        super().prepare()
        if not (CODE / "maintenance" / "install.php").is_file():
            raise BinaryMissing("mediawiki", INSTALL)
        for folder in ("images", "cache", "tmp"):
            (self.directory / folder).mkdir(exist_ok=True)

    def install(self) -> None:
        """Make its tables, its first page and user, and its settings, by its own installer.

        Raises subprocess.CalledProcessError with what that said.
        """
        self.mariadb.create_database(self.database)
        unfinished = self.directory / "new"
        unfinished.mkdir()
        words = {
            "confpath": str(unfinished),
            "server": self.url,
            "scriptpath": "",
            "dbserver": self.mariadb.address,
            "dbname": self.database,
            "dbuser": "root",
            "dbpass": "",
            "pass": self.password,
        }
        options = [f"--{key}={value}" for key, value in words.items()]
        run_php(CODE / "maintenance" / "install.php", *options, "Forge wiki", self.user, bound=120)
        settings = unfinished / "LocalSettings.php"
        with settings.open("a", encoding="utf-8") as file:
            file.write(_SETTINGS.replace("@HOME@", str(self.directory)))
        settings.rename(self.local_settings)

    def maintenance(self, script: str, *arguments: str) -> str:
        """Run one of its maintenance scripts; what it printed.

        Raises subprocess.CalledProcessError when it fails.
        """
        file = CODE / "maintenance" / f"{script}.php"
        return run_php(file, *arguments, env=self.env, bound=120)
