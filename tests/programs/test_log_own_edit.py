"""A visitor of an untouched WordPress sees their own edit on the next page, which Python answers:
by the place to which the database's log had come, and no help of PHP's."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.redis import Redis
from tests.programs.logged import LOG_OPTIONS
from tests.programs.own_edit import SHELLS, Blog, Editor, Tally, edit, loaded, paused


@pytest.fixture(scope="module")
def blog(
    tmp_path_factory: pytest.TempPathFactory, mongodb: Mongod, redis_server: Redis
) -> Iterator[Blog]:
    folder = tmp_path_factory.mktemp("blog")
    mariadb = MariaDB(folder / "mariadb", grants=True, options=LOG_OPTIONS)
    with mariadb, Blog(folder / "site", mariadb, mongodb, redis_server) as blog:
        blog.begin()
        yield blog


def prove(blog: Blog, shell: str, clicks: int, capsys: pytest.CaptureFixture[str]) -> None:
    """So many edits, each with a look after it; then both sides are compared."""
    tally, seed = Tally(), 1
    with blog.behind(shell):
        with loaded(blog, tally), paused(blog, tally, seed):
            edit(blog, tally, clicks, seed)
        counts = blog.counts() if shell == "serve" else ""  # status counts its workers
    told = tally.told()
    with capsys.disabled():
        print(f"\n{shell}: {told}, {counts}")
    assert tally.stale == []
    assert told["edits"] >= clicks
    assert set(told["answers"]) == {"python", "legacy"}
    assert tally.pauses["long"] > 0
    assert all(tally.others.values())
    blog.mirrored.check_equal()


@pytest.mark.programs
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_next_click_shows_each_of_60_edits(
    blog: Blog, shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prove(blog, shell, 60, capsys)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_next_click_shows_each_of_2000_edits(
    blog: Blog, shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prove(blog, shell, 2000, capsys)


@pytest.mark.programs
@pytest.mark.timeout(120)
@pytest.mark.parametrize("shell", SHELLS)
def test_who_loses_the_cookie_sees_what_was(blog: Blog, shell: str) -> None:
    """That these tests can fail."""
    capture = blog.mirrored.capture
    with blog.behind(shell):
        careful, forgetful = (Editor(blog, 0, 2, forgetful=one) for one in (False, True))
        capture.signal(signal.SIGSTOP)
        try:
            seen = [click for post in blog.posts[0] for click in forgetful._rest(post)]
            assert all(click.by_python and click.stale for click in seen), seen
            seen = [click for post in blog.posts[0] for click in careful._rest(post)]
            assert not any(click.by_python or click.stale for click in seen), seen
        finally:
            capture.signal(signal.SIGCONT)
