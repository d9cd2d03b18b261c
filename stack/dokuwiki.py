"""DokuWiki of Debian's package, as a real PHP program to put the bridge in front of.

A private copy: its code, configuration, pages and media lie in one directory, so that nothing
of an installed wiki is read or changed. What it shows depends on nothing but this file: the
pages are these, and every file has the same time of change.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from stack.errors import BinaryMissing
from stack.php import PhpServer

__all__ = ["DokuWiki"]

CODE = Path("/usr/share/dokuwiki")
CONFIGURATION = Path("/etc/dokuwiki")
CHANGED_AT = 1_700_000_000
"""Unix time of the last change of all pages and media."""

_LEFT_OUT = ("testing", "install.php", "preload.php", "index.html")
_KEPT_LANGUAGE = "en"
_DATA = (
    *("attic", "cache", "index", "locks", "log", "media", "media_attic", "media_meta"),
    *("meta", "pages", "tmp"),
)
_SETTINGS = """\
<?php
$conf['title'] = 'Wiki';
$conf['savedir'] = getenv('WIKI_DATA');
$conf['useacl'] = 1;
$conf['superuser'] = '@admin';
$conf['gzip_output'] = 1;
$conf['userewrite'] = 2;
$conf['deaccent'] = 0;
$conf['updatecheck'] = 0;
$conf['send404'] = 1;
$conf['disableactions'] = 'register,resendpwd';
"""
_PRELOAD = """\
<?php
define('DOKU_CONF', getenv('WIKI_CONFIGURATION') . '/');
"""
_READERS_MAY_READ = "# acl.auth.php\n# <?php exit()?>\n*\t@ALL\t1\n*\t@user\t8\n"
_PAGES = {
    "start": "====== Start ======\n\nSee [[wiki:syntax]] and [[missing]]. {{wiki:picture.png}}\n",
    "wiki/syntax": "====== Syntax ======\n\n"
    + "**bold** //italic// ''mono'' <b> & \"q\" – é\n\n" * 90,
    "wiki/größe": "====== Größe ======\n\nA page with a name beyond ASCII.\n",
    "playground/a.b_c-d": "====== Signs ======\n\nA page with signs in its name.\n",
}
_MEDIA = ("wiki/picture.png", "wiki/archive.zip", "wiki/notes.txt")


class DokuWiki(PhpServer):
    """DokuWiki behind `php -S` with one user, who may do everything.

    directory: everything is in it; what was written to the wiki survives a restart.
    """

    name: ClassVar[str] = "dokuwiki"

    def __init__(
        self,
        directory: Path,
        *,
        user: str = "admin",
        password: str = "secret",
        port: int | None = None,
        workers: int = 4,
    ) -> None:
        home = Path(directory).resolve()
        self.data, self.configuration = home / "data", home / "conf"
        super().__init__(
            home,
            home / "code",
            port=port,
            env={"WIKI_DATA": str(self.data), "WIKI_CONFIGURATION": str(self.configuration)},
            settings={
                "opcache.enable_cli": "1",
                "session.save_path": str(home / "sessions"),
                "display_errors": "0",
            },
            workers=workers,
        )
        self.user, self.password = user, password

    def prepare(self) -> None:
        """Copy the code and write configuration, pages and media, once.

        Raises BinaryMissing when the package is not installed.
        """
        super().prepare()
        if not self.docroot.exists():
            if not (CODE / "doku.php").is_file():
                raise BinaryMissing("dokuwiki", "apt-get install dokuwiki")
            self._write_configuration()
            self._write_data()
            (self.directory / "sessions").mkdir()
            unfinished = self.directory / "code.new"
            shutil.copytree(CODE, unfinished, ignore=_not_needed, dirs_exist_ok=True)
            (unfinished / "inc" / "preload.php").write_text(_PRELOAD, encoding="utf-8")
            unfinished.rename(self.docroot)

    def page_file(self, page: str) -> Path:
        """The file of the text of a page, for example `wiki:syntax`."""
        return self.data / "pages" / f"{_file_name(page.replace(':', '/'))}.txt"

    def _write_configuration(self) -> None:
        self.configuration.mkdir(parents=True, exist_ok=True)
        for file in CONFIGURATION.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, self.configuration / file.name)
        digest = hashlib.sha1(f"{self.password}salt".encode()).digest() + b"salt"
        hashed = "{SSHA}" + base64.b64encode(digest).decode()
        user = f"{self.user}:{hashed}:Wiki Admin:admin@example.org:admin,user\n"
        for name, text in {
            "local.php": _SETTINGS,
            "acl.auth.php": _READERS_MAY_READ,
            "users.auth.php": f"# users.auth.php\n# <?php exit()?>\n{user}",
        }.items():
            (self.configuration / name).write_text(text, encoding="utf-8")

    def _write_data(self) -> None:
        for folder in _DATA:
            (self.data / folder).mkdir(parents=True, exist_ok=True)
        noise = random.Random("media")
        contents: Mapping[Path, bytes] = {
            **{self.page_file(name): text.encode() for name, text in _PAGES.items()},
            **{self.data / "media" / name: noise.randbytes(50_000) for name in _MEDIA},
        }
        for file, content in contents.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.utime(file, (CHANGED_AT, CHANGED_AT))


def _not_needed(folder: str, names: list[str]) -> set[str]:
    """For `shutil.copytree`: other languages are most of the package."""
    if os.path.basename(folder) == "lang":
        return set(names) - {_KEPT_LANGUAGE}
    return set(names) & set(_LEFT_OUT)


def _file_name(path: str) -> str:
    """DokuWiki writes names in percent encoding, with `/` and `:` as they are."""
    return "".join(
        c if c.isascii() else "".join(f"%{byte:02x}" for byte in c.encode()) for c in path
    )
