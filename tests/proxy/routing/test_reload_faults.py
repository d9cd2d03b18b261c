"""The table goes live, whatever files and handlers do, and old ones go."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bridge.proxy.routing.reload as reloading
from bridge.errors import ConfigError
from bridge.proxy.routing import lastgood
from bridge.proxy.routing.imports import Imports
from bridge.proxy.routing.load import Handlers, load_text
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.routing.table import RouteTable
from stack.waiting import wait_for
from tests.proxy.site import TOP, VIEW, decided, head, route

RAISING = [
    route("a", "/project/<name>/files/<name>"),
    route("a", "/<string(min=3):x>"),
    route("a", "/<int(max=x):a>"),
    route("a", "/a", "2026-13-45"),
    route("a", "/a", "!!int abc"),
    "{\n" * 1500,
    "<<: *nobody",
]
"""Routes that made exceptions of many kinds."""

HANGING = """\
import importlib, threading
gate = importlib.import_module("@TESTS@")
gate.entered.set()
gate.opened.wait(60)
def view(request): ...
"""

entered, opened = threading.Event(), threading.Event()
"""Of the module that hangs: it has begun, and may go on."""


def text(*routes: str, top: str = TOP) -> str:
    return top + "".join(f"  - {{{one}}}\n" for one in routes)


def share(percent: str) -> str:
    return text(route("page", "/page", percent))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site" / "routes.yaml"
    path.parent.mkdir()
    path.write_text(share("0%"))
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """hanging(share): a route whose handler's module hangs until `opened` is set."""
    name = f"hanging_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(HANGING.replace("@TESTS@", __name__))
    monkeypatch.syspath_prepend(tmp_path)
    entered.clear()
    opened.clear()
    yield lambda share: f'name: slow, path: /slow, handler: "{name}:view", python: {share}'
    opened.set()
    wait_for(lambda: not importing(), 10, "no import runs any more")
    sys.modules.pop(name, None)


def importing() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "bridge-import"]


@pytest.fixture
def watched(file: Path, state: Path) -> Iterator[Reloader]:
    reloader = Reloader(file, state)
    reloader.start()
    yield reloader
    reloader.stop()


def live(reloader: Reloader, percent: str) -> None:
    """Make a table with this share, and wait until it is live."""
    new = reloader.path.with_suffix(".new")
    new.write_text(share(percent))
    new.replace(reloader.path)
    is_live(reloader, percent)


def is_live(reloader: Reloader, percent: str) -> None:
    wanted = round(float(percent.rstrip("%")) * 1000)

    def there() -> bool:
        page = reloader.table().route("page")
        return page is not None and page.share == wanted and not reloader.error

    wait_for(there, 10, f"{percent} to be live", interval=0.01)


# --- the thread that watches


@pytest.mark.parametrize("broken", RAISING)
def test_what_raises_while_a_file_is_read_is_an_error_and_the_next_file_counts(
    watched: Reloader, broken: str
) -> None:
    for percent in ("1%", "2%"):
        watched.path.write_text(text(broken))
        wait_for(lambda: watched.error, 10, "the error")
        assert isinstance(watched.error, ConfigError)
        assert all(problem.line for problem in watched.error.problems)
        live(watched, percent)
    assert watched.watches


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, SystemExit, OSError, RecursionError])
def test_nothing_that_loading_raises_ends_the_thread_that_watches(
    watched: Reloader, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Saved twice within a moment: the second one comes while the first is being got over."""
    calls = []

    def fail(*arguments: object, **more: object) -> RouteTable:
        calls.append(1)
        raise error("for a test")

    with monkeypatch.context() as patched:
        patched.setattr(reloading, "load", fail)
        for number in range(1, 4):
            watched.path.write_text(share(f"{number}%"))
            wait_for(lambda number=number: len(calls) > number, 10, "another attempt")
    live(watched, "50%")
    assert watched.watches


def test_who_is_told_and_fails_does_not_end_it_either(file: Path, state: Path) -> None:
    def full(reloader: Reloader) -> None:
        raise OSError("no space left on device")

    reloader = Reloader(file, state, full)
    reloader.start()
    try:
        live(reloader, "1%")
        live(reloader, "2%")
    finally:
        reloader.stop()


def test_a_thread_that_is_gone_is_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reloader = Reloader(file)
    assert reloader.watches
    monkeypatch.setattr(reloader, "_watch", lambda: None)
    reloader.start()
    wait_for(lambda: not reloader.watches, 10, "its end to be seen")


def test_a_folder_that_comes_and_goes_is_followed(watched: Reloader, tmp_path: Path) -> None:
    folder = watched.path.parent
    for percent in ("1%", "2%"):
        folder.rename(tmp_path / "away")
        wait_for(lambda: watched.error, 10, "the missing file to be said")
        folder.mkdir()
        live(watched, percent)
        for path in (tmp_path / "away").iterdir():
            path.unlink()
        (tmp_path / "away").rmdir()


def test_a_change_that_keeps_the_time_of_the_file_is_seen(watched: Reloader) -> None:
    before = os.stat(watched.path)
    watched.path.write_text(share("9%"))
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    is_live(watched, "9%")


# --- handlers that hang


def test_a_table_is_live_before_its_handler_is_imported_and_gets_it_then(
    watched: Reloader, hanging: Callable[[str], str]
) -> None:
    watched.path.write_text(text(route("page", "/page", "7%"), hanging("100%")))
    wait_for(lambda: len(watched.table().routes) == 2, 10, "the new table")
    assert entered.wait(10)
    assert "is still being imported" in str(watched.error)
    assert decided(watched.table(), head("/slow")).reason == "no-handler"
    opened.set()
    wait_for(lambda: not watched.error, 10, "no error any more")
    assert decided(watched.table(), head("/slow")).python


def test_shares_are_taken_back_while_an_import_hangs(
    file: Path, state: Path, hanging: Callable[[str], str]
) -> None:
    file.write_text(text(route("page", "/page", "100%"), hanging("0%")))
    reloader = Reloader(file, state, import_limit=0.2)
    assert decided(reloader.table(), head("/page")).python
    reloader.start()
    try:
        for percent in ("0%", "100%", "0%"):
            file.write_text(text(route("page", "/page", percent), hanging("0%")))
            wait_for(
                lambda percent=percent: (
                    decided(reloader.table(), head("/page")).python is (percent == "100%")
                ),
                10,
                "the share",
            )
        wait_for(lambda: "is not imported after 0.2 s" in str(reloader.error), 10, "the limit")
        assert f"hanging_{file.parent.parent.name}.py:4" in str(reloader.error)
        assert entered.is_set()
        assert not opened.is_set()
    finally:
        reloader.stop()


def test_a_start_waits_for_handlers_that_answer_visitors(
    file: Path, hanging: Callable[[str], str]
) -> None:
    file.write_text(text(hanging("100%")))
    timer = threading.Thread(target=lambda: (entered.wait(10), opened.set()))
    timer.start()
    reloader = Reloader(file, import_limit=60)
    timer.join()
    assert decided(reloader.table(), head("/slow")).python
    assert not reloader.error


def test_and_no_longer_than_the_limit(file: Path, hanging: Callable[[str], str]) -> None:
    file.write_text(text(route("page", "/page", "100%"), hanging("100%")))
    reloader = Reloader(file, import_limit=0.2)
    assert decided(reloader.table(), head("/page")).python
    assert decided(reloader.table(), head("/slow")).reason == "no-handler"
    assert not opened.is_set()


def test_a_share_taken_back_ends_the_wait_of_a_start(
    file: Path, hanging: Callable[[str], str]
) -> None:
    file.write_text(text(hanging("100%")))

    def take_back() -> None:
        entered.wait(10)
        file.write_text(text(hanging("0%")))

    thread = threading.Thread(target=take_back)
    thread.start()
    reloader = Reloader(file, import_limit=600)
    thread.join()
    assert reloader.table().routes[0].share == 0
    assert not opened.is_set()


def test_one_that_hangs_holds_up_no_other_and_makes_one_thread(
    hanging: Callable[[str], str], tmp_path: Path
) -> None:
    module = f"hanging_{tmp_path.name}"
    imports = Imports(limit=0.1)
    stuck = [(f"{module}:view", True), (f"{module}:other", True)]
    for _ in range(3):
        found = imports.ask([*stuck, (VIEW, True)])
        assert callable(found[VIEW, True])
        assert "is not imported after 0.1 s" in str(found[stuck[0]])
    assert len(importing()) == 1
    opened.set()
    wait_for(imports.has_news, 10, "the one that hung")
    found = imports.ask(stuck)
    assert callable(found[stuck[0]])
    assert "has no `other`" in str(found[stuck[1]])


# --- the last good table


PAGED = TOP.replace("legacy: php}", "legacy: php, error_pages: {502: 502.html, 404: 404.html}}")


def paged(percent: str) -> str:
    return text(route("page", "/page", percent), top=PAGED)


@pytest.fixture
def pages(file: Path) -> Path:
    for status in (404, 502):
        (file.parent / f"{status}.html").write_text(f"<p>{status}")
    file.write_text(paged("1%"))
    return file.parent


def spoil(page: Path) -> None:
    page.write_bytes(b"caf\xe9")


@pytest.mark.parametrize("harm", [Path.unlink, spoil])
def test_a_start_with_a_spoilt_error_page_shows_the_one_that_there_was(
    file: Path, state: Path, pages: Path, harm: Callable[[Path], None]
) -> None:
    Reloader(file, state)
    harm(pages / "502.html")
    again = Reloader(file, state)
    assert again.table().page("forge", 502) == "<p>502"
    assert "502.html" in str(again.error)
    harm(pages / "404.html")
    file.write_text("broken")
    third = Reloader(file, state)
    assert third.table().page("forge", 404) == "<p>404"
    assert third.table().page("forge", 502) == "<p>502"
    assert third.error


def test_a_start_without_a_copy_of_the_page_shows_the_plain_one(file: Path, pages: Path) -> None:
    (pages / "502.html").unlink()
    reloader = Reloader(file)
    assert reloader.table().page("forge", 502) is None
    assert reloader.table().page("forge", 404) == "<p>404"
    assert "502.html" in str(reloader.error)


def test_shares_change_while_an_error_page_is_spoilt(file: Path, state: Path, pages: Path) -> None:
    reloader = Reloader(file, state)
    spoil(pages / "502.html")
    file.write_text(paged("3%"))
    reloader.check(force=True)
    assert reloader.table().routes[0].share == 3_000
    assert reloader.table().page("forge", 502) == "<p>502"
    (pages / "502.html").write_text("new")
    reloader.check(force=True)
    assert reloader.table().page("forge", 502) == "new"
    assert not reloader.error


@pytest.mark.parametrize(
    "harm",
    [
        lambda kept: kept.write_text("no JSON"),
        lambda kept: kept.write_text("[[1]]"),
        lambda kept: kept.write_bytes(b"\xff"),
        Path.unlink,
    ],
)
def test_copies_that_are_spoilt_themselves_do_not_stop_a_start(
    file: Path, state: Path, pages: Path, harm: Callable[[Path], None]
) -> None:
    Reloader(file, state)
    harm(state / "last-good.pages.json")
    (pages / "502.html").unlink()
    file.write_text("broken")
    assert Reloader(file, state).table().page("forge", 404) == "<p>404"
    (state / lastgood.FILE).write_text("broken too")
    with pytest.raises(ConfigError, match=r"routes\.yaml"):
        Reloader(file, state)


def test_the_last_good_table_gets_handlers_that_come_late(
    file: Path, state: Path, hanging: Callable[[str], str]
) -> None:
    file.write_text(text(hanging("100%")))
    Reloader(file, state, import_limit=0.1)
    file.write_text("broken")
    reloader = Reloader(file, state, import_limit=0.1)
    assert decided(reloader.table(), head("/slow")).reason == "no-handler"
    reloader.start()
    try:
        opened.set()
        wait_for(lambda: decided(reloader.table(), head("/slow")).python, 10, "the handler")
        assert "mapping" in str(reloader.error)
    finally:
        reloader.stop()


# --- what is over


def test_tables_that_are_over_are_gone(file: Path, state: Path) -> None:
    """Without the collector of cycles, which looks at old objects seldom."""
    gone: list[weakref.ref[Any]] = []
    reloader = Reloader(file, state)
    gc.collect()
    gc.disable()
    try:
        for number in range(1, 21):
            broken = number % 3 == 0
            file.write_text("broken" if broken else share(f"{number}%"))
            before = reloader.table()
            decided(before, head("/page"))
            decided(before.at(5), head("/page"))
            parts = (before, before.routes[0].conditions, before.hosts, before.trusted)
            gone += [weakref.ref(part) for part in parts]
            del before, parts
            reloader.check(force=True)
        left = [found for one in gone if (found := one()) is not None]
    finally:
        gc.enable()
    now = reloader.table()
    assert set(map(id, left)) <= {
        id(part) for part in (now, now.routes[0].conditions, now.hosts, now.trusted)
    }


def test_a_load_leaves_no_garbage_behind() -> None:
    """What the reading of a file makes is gone when it has been read."""

    def garbage(routes: int) -> int:
        ours = text(*(route(f"r{number}", f"/a{number}/<name>") for number in range(routes)))
        gc.collect()
        gc.disable()
        try:
            load_text(ours, Path("routes.yaml"), handlers=Handlers.NAMED)
            return gc.collect()
        finally:
            gc.enable()

    garbage(1)
    # Werkzeug leaves a function, a cell and a tuple for each rule that is tried out.
    assert garbage(60) - garbage(10) <= 50 * 3


def vanish(state: Path) -> None:
    shutil.rmtree(state)


def lose_what_one_worker_said(state: Path) -> None:
    """Another one has kept the table meanwhile."""
    (state / "said").unlink()


def become_a_file(state: Path) -> None:
    """Again and again: the reloader may make the folder anew meanwhile."""

    def changed() -> bool:
        shutil.rmtree(state, ignore_errors=True)
        with contextlib.suppress(OSError):
            state.write_text("")
        return state.is_file()

    wait_for(changed, 10, "a file in the place of the folder")


@pytest.mark.parametrize("harm", [vanish, become_a_file, lose_what_one_worker_said])
def test_a_state_directory_that_was_lost_has_everything_again(
    file: Path, state: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    """The last good table, and what the workers say of themselves, without a change of the file."""
    monkeypatch.setattr(reloading, "_RETRY_AFTER", 0.1)

    def say(reloader: Reloader) -> None:
        state.mkdir(exist_ok=True)
        (state / "said").write_text(reloader.table().digest)

    reloader = Reloader(file, state, say, is_told=(state / "said").exists)
    reloader.start()
    try:
        harm(state)
        if state.is_file():
            wait_for(lambda: reloader._untold, 10, "it was seen")
            state.unlink()
        wait_for((state / "said").exists, 10, "what the worker says")
        wait_for(lambda: lastgood.text(state) == share("0%"), 10, "the last good table")
        number = reloader.table().generation
    finally:
        reloader.stop()
    assert number == 1
