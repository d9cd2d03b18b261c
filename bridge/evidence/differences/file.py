"""The file that evidence is kept in: `evidence.db` in the state directory, SQLite with a WAL.

Several processes write and read it at once, and any of them may be killed at any time. One that is
damaged, or that somebody else has put there, is put aside, and a new one is begun. It is readable
by its owner only: what visitors have seen is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import structlog

from bridge.errors import BridgeError, StateUnreadable
from bridge.files import take_over

__all__ = ["ASIDE", "NAME", "Database", "EvidenceUnreadable", "is_damage", "open_file", "put_aside"]

NAME = "evidence.db"
ASIDE = "evidence.damaged.db"
"""Where a damaged file is put; an older one there is lost."""

_LOCK = "evidence.lock"
_OURS = 0x42726964  # application_id: this is a file of ours
_VERSION = 1  # user_version: of the tables below
_WAIT = 2.0  # seconds for another process that writes
_BEGINS = b"SQLite format 3\0"

_SETTINGS = (
    "foreign_keys = ON",
    "synchronous = NORMAL",
    "cache_size = -2000",  # KiB
    "journal_size_limit = 4194304",  # bytes
)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = structlog.get_logger("bridge.evidence")

Database = sqlite3.Connection

_TABLES = """
CREATE TABLE counts (
    route TEXT, release TEXT, rules TEXT, source TEXT, kind TEXT, n INTEGER, last REAL,
    PRIMARY KEY (route, release, rules, source, kind)
) WITHOUT ROWID;
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT, place TEXT, what TEXT, kind TEXT,
    last REAL, sampled REAL, UNIQUE (route, place, what, kind)
);
CREATE TABLE seen (
    group_id INTEGER REFERENCES groups ON DELETE CASCADE,
    release TEXT, rules TEXT, source TEXT, n INTEGER, first REAL, last REAL,
    PRIMARY KEY (group_id, release, rules, source)
) WITHOUT ROWID;
CREATE TABLE pages (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, weight INTEGER, data BLOB);
CREATE TABLE samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER REFERENCES groups ON DELETE CASCADE,
    page_id INTEGER REFERENCES pages ON DELETE CASCADE,
    at REAL, release TEXT, source TEXT, difference TEXT
);
CREATE INDEX groups_last ON groups (last);
CREATE INDEX counts_last ON counts (last);
CREATE INDEX pages_weight ON pages (at, weight);
CREATE INDEX samples_group ON samples (group_id);
CREATE INDEX samples_page ON samples (page_id);
"""


class EvidenceUnreadable(BridgeError):
    """The file cannot be opened, by this user or at all."""


def open_file(state_dir: Path, *, make: bool) -> Database | None:
    """The file of `state_dir`; None where there is none and it is not to be made. Who does not
    make one puts none aside.

    Raises EvidenceUnreadable and StateUnreadable where it cannot be opened, and sqlite3.Error and
    OSError where it cannot be used now: a disk is full, or somebody else writes for too long.
    """
    path = state_dir / NAME
    if not make and not _is_there(path):
        return None
    if make:
        state_dir.mkdir(parents=True, exist_ok=True)
    _check_owner(path)
    if (database := _usable(path)) is not None:
        return database
    if not make:
        raise EvidenceUnreadable(
            f"{path} is damaged, or of another program: remove it, or go on comparing, which puts "
            "it aside; what it has is lost"
        )
    with _alone(state_dir):
        # Another process may have been quicker.
        if (database := _usable(path)) is not None:
            return database
        if _is_there(path):
            _put_aside(path)
        _create(path, state_dir)
        if (database := _usable(path)) is None:
            raise EvidenceUnreadable(f"{path} is no good although it was made just now")
        return database


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it says that the file is no good, and not only that it cannot be used now."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def put_aside(state_dir: Path, inode: int) -> None:
    """Put the file aside, if it still is the one with this inode. Raises OSError and
    EvidenceUnreadable."""
    path = state_dir / NAME
    with _alone(state_dir), contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:
            _put_aside(path)


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except PermissionError:  # os.path.lexists would say that there is none
        raise StateUnreadable(path.parent) from None
    return True


def _check_owner(path: Path) -> None:
    """A link, or a file of another user, would be a way to have pages written elsewhere."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except PermissionError:
        raise StateUnreadable(path.parent) from None
    if os.path.islink(path):
        raise EvidenceUnreadable(f"{path} is a link; remove it")
    if os.geteuid() not in (0, found.st_uid):
        raise EvidenceUnreadable(
            f"{path} belongs to another user, and only that one may read it: what visitors have "
            "seen is in it; run this as the user of `bridgectl serve`"
        )


def _usable(path: Path) -> Database | None:
    """The file opened; None where there is none, or none of ours."""
    try:
        with open(path, "rb") as file:
            begins = file.read(len(_BEGINS))
    except (FileNotFoundError, IsADirectoryError):
        return None
    if begins != _BEGINS:
        return None
    database = sqlite3.connect(
        f"file:{_quoted(path)}?mode=rw",
        uri=True,
        timeout=_WAIT,
        check_same_thread=False,
        isolation_level=None,
    )
    try:
        is_ours = (
            database.execute("PRAGMA application_id").fetchone()[0] == _OURS
            and database.execute("PRAGMA user_version").fetchone()[0] == _VERSION
        )
        if is_ours:
            for pragma in _SETTINGS:
                database.execute(f"PRAGMA {pragma}")
            # It fails here where a page of it is no page, and not in the middle of a note.
            database.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            return database
    except sqlite3.OperationalError:
        database.close()
        raise
    except sqlite3.DatabaseError:
        pass
    database.close()
    return None


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextlib.contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """While no other process puts a file aside or makes one."""
    name = state_dir / _LOCK
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _of_the_folder(lock, state_dir)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _of_the_folder(file: int, state_dir: Path) -> None:
    """What root makes here belongs to the service."""
    take_over(file, os.stat(state_dir), 0o600)


def _put_aside(path: Path) -> None:
    aside = path.with_name(ASIDE)
    if aside.is_dir() and not aside.is_symlink():
        raise EvidenceUnreadable(f"{aside} is a folder; remove it")
    os.replace(path, aside)
    log.error("the file of evidence was damaged, or of another version; it begins anew", put=aside)


def _create(path: Path, state_dir: Path) -> None:
    """A new file with its tables, whole under its name or not there."""
    fresh = path.with_name(f".{NAME}.new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _of_the_folder(file, state_dir)
    finally:
        os.close(file)
    database = sqlite3.connect(fresh, isolation_level=None)
    try:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id = {_OURS}; "
            f"PRAGMA user_version = {_VERSION}; COMMIT;"
        )
    finally:
        database.close()
    # Those of a file that is gone would be read into the new one.
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    os.replace(fresh, path)
