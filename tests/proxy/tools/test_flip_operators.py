"""Several people flip: each is a user of their own, and the group is what they share."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.errors import FlipRefused
from bridge.proxy.routing.load import load
from bridge.proxy.tools.flip import flip, history_file, read_history
from tests.proxy.site import TOP, route

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")

TEAM = 2000
FIRST, SECOND, SERVICE, STRANGER = 1001, 1002, 1003, 1004
UMASKS = [0o022, 0o002, 0o027, 0o077]


@contextmanager
def user(uid: int, *groups: int, umask: int = 0o022) -> Iterator[None]:
    """Somebody whose own group has the number of their user, as adduser makes it."""
    before = os.getgroups(), os.umask(umask)
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before[0])
        os.umask(before[1])


def site(folder: Path, mode: int, folder_mode: int) -> Path:
    """A site that the team may write to."""
    file = folder / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
    os.chown(folder, 0, TEAM)
    os.chown(file, 0, TEAM)
    folder.chmod(folder_mode)
    file.chmod(mode)
    return file


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("umask", UMASKS, ids=oct)
@pytest.mark.parametrize("mode", [0o664, 0o660, 0o644, 0o640], ids=oct)
@pytest.mark.parametrize("folder_mode", [0o2775, 0o775], ids=oct)
def test_whoever_of_the_team_flipped_first_the_next_one_can(
    folder: Path, mode: int, folder_mode: int, umask: int
) -> None:
    """Up, back and up again; and who only reads the file, as the service does, still can."""
    file = site(folder, mode, folder_mode)
    with user(FIRST, TEAM, umask=umask):
        flip(file, "page", "60%", who="first", why="up")
    with user(SECOND, TEAM, umask=umask):
        done = flip(file, "page", "0%", who="second", why="back")
        assert mode & 0o020 == 0 or done.unrecorded == ""
    with user(SERVICE, TEAM):
        assert load(file).routes[0].share == 0
    if mode & 0o020:
        with user(FIRST, TEAM, umask=umask):
            flip(file, "page", "70%", who="first", why="up again")
        assert [one.who for one in read_history(file)] == ["first", "second", "first"]


@pytest.mark.parametrize("umask", UMASKS, ids=oct)
def test_what_a_flip_leaves_is_as_open_as_routes_yaml(folder: Path, umask: int) -> None:
    file = site(folder, 0o664, 0o775)
    with user(FIRST, TEAM, umask=umask):
        flip(file, "page", "60%", who="first", why="up")
    for path in (file, history_file(file), folder / ".routes.yaml.lock"):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o664, TEAM), path


def test_what_root_flips_stays_the_operators(folder: Path) -> None:
    """With sudo, say: the history is not root's alone afterwards."""
    file = site(folder, 0o644, 0o775)
    os.chown(file, FIRST, TEAM)
    with user(0, umask=0o077):
        flip(file, "page", "60%", who="root", why="up")
    with user(FIRST, TEAM):
        flip(file, "page", "70%", who="first", why="more")
    assert [one.who for one in read_history(file)] == ["root", "first"]


def test_a_lock_of_an_older_version_is_no_obstacle(folder: Path) -> None:
    """It is there already, another user's, and only to be read."""
    file = site(folder, 0o664, 0o2775)
    lock = folder / ".routes.yaml.lock"
    lock.touch()
    os.chown(lock, FIRST, FIRST)
    lock.chmod(0o644)
    with user(SECOND, TEAM):
        flip(file, "page", "0%", who="second", why="back")
    assert load(file).routes[0].share == 0


def test_a_lock_that_cannot_be_read_is_named(folder: Path) -> None:
    file = site(folder, 0o664, 0o2775)
    lock = folder / ".routes.yaml.lock"
    lock.touch()
    lock.chmod(0)
    with user(SECOND, TEAM), pytest.raises(FlipRefused, match=r"the lock .*\.routes\.yaml\.lock"):
        flip(file, "page", "0%", who="second", why="back")


def test_who_is_not_of_the_team_changes_nothing(folder: Path) -> None:
    file = site(folder, 0o664, 0o2775)
    before = file.read_bytes()
    with user(STRANGER), pytest.raises(FlipRefused, match="Permission denied"):
        flip(file, "page", "0%", who="stranger", why="mine")
    assert file.read_bytes() == before
