"""What workers say of themselves, and who may read it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import cli
from bridge.errors import StateUnreadable
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry import workers as status
from stack.waiting import wait_for
from tests.proxy.site import TOP, route


@pytest.fixture
def reloader(tmp_path: Path) -> Reloader:
    file = tmp_path / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>')}}}\n")
    return Reloader(file)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may look into."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def stranger(state_dir: Path) -> Iterator[None]:
    """Somebody who may not read `state_dir`."""
    state_dir.chmod(0o700 if os.geteuid() == 0 else 0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        state_dir.chmod(0o750)


def test_a_worker_replaces_and_removes_its_own_file_only(
    tmp_path: Path, reloader: Reloader
) -> None:
    status.write(tmp_path, 0, reloader)
    own = tmp_path / "workers" / f"{os.getpid()}.json"
    other = own.with_name(f"{os.getppid()}.json")
    other.write_text(json.dumps({**json.loads(own.read_text()), "pid": os.getppid()}))
    status.write(tmp_path, 0, reloader)
    assert {one.pid for one in status.read_all(tmp_path)} == {os.getpid(), os.getppid()}
    status.remove(tmp_path, os.getpid())
    assert [one.pid for one in status.read_all(tmp_path)] == [os.getppid()]
    status.prepare(tmp_path)
    assert list(own.parent.iterdir()) == []


def test_where_nobody_has_served_there_are_no_workers(tmp_path: Path) -> None:
    assert status.read_all(tmp_path / "none") == []
    status.prepare(tmp_path / "none")


@pytest.mark.parametrize("closed", ["state", "state/workers"])
def test_who_may_not_read_the_state_directory_is_told_so(shared: Path, closed: str) -> None:
    state_dir = shared / "state"
    (state_dir / "workers").mkdir(parents=True)
    with (
        stranger(shared / closed),
        pytest.raises(StateUnreadable, match=f"{state_dir} cannot be read as this user"),
    ):
        status.read_all(state_dir)


def test_a_single_file_that_cannot_be_read_is_no_reason_to_say_that_nobody_serves(
    shared: Path, reloader: Reloader
) -> None:
    status.write(shared, 0, reloader)
    with (
        stranger(shared / "workers" / f"{os.getpid()}.json"),
        pytest.raises(StateUnreadable),
    ):
        status.read_all(shared)


def test_the_numbers_are_not_for_everybody_either(shared: Path) -> None:
    state_dir = shared / "state"
    scrape.prepare(state_dir)
    with stranger(state_dir), pytest.raises(StateUnreadable):
        scrape.loops(state_dir)


def test_bridge_routes_says_that_it_cannot_look(shared: Path, reloader: Reloader) -> None:
    routes = shared / "routes.yaml"
    routes.write_text(reloader.path.read_text())
    status.write(shared / "state", 0, reloader)
    env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(shared / "state")}
    with stranger(shared / "state"):
        done = CliRunner(env=env).invoke(cli, ["routes"])
    assert isinstance(done.exception, StateUnreadable), done.output


def test_a_flip_that_nobody_can_see_says_so(shared: Path) -> None:
    """The file is changed; whether workers have it is in a folder that this user may not read."""
    shared.chmod(0o777)
    routes = shared / "routes.yaml"
    routes.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
    routes.chmod(0o666)
    (shared / "state" / "workers").mkdir(parents=True)
    env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(shared / "state")}
    with stranger(shared / "state"):
        done = CliRunner(env=env).invoke(cli, ["flip", "page", "0%", "--why", "back"])
    assert "not known whether it is live" in str(done.exception)
    assert "python: 0%" in routes.read_text()


def test_bridge_explain_explains_without_them(shared: Path) -> None:
    routes = shared / "routes.yaml"
    routes.write_text(TOP + f"  - {{{route('page', '/p/<name>', '100%')}}}\n")
    (shared / "state" / "workers").mkdir(parents=True)
    env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(shared / "state")}
    importlib.import_module("bridge.cli.check")  # which a stranger may not read either
    with stranger(shared / "state"):
        done = CliRunner(env=env).invoke(cli, ["explain", "GET", "/p/a"])
    assert done.exit_code == 0, done.output
    assert "python answers" in done.output
    assert "whether a breaker is open is not known" in done.output


ALONE = status.Notes({"php": {"http://a": "takes no connection"}})


def alone(state_dir: Path) -> dict[str, dict[str, str]]:
    (worker,) = status.read_all(state_dir)
    return {name: dict(servers) for name, servers in worker.alone.items()}


def test_what_a_worker_notices_is_written_without_a_load(
    tmp_path: Path, reloader: Reloader
) -> None:
    writer = status.Writer(tmp_path, 0)
    writer.note(ALONE)  # before there is a table
    writer.loaded(reloader)
    assert alone(tmp_path) == ALONE.alone
    writer.note(status.Notes())
    wait_for(lambda: not alone(tmp_path), 10, "the server is asked again")


def test_what_could_not_be_written_is_tried_again(tmp_path: Path, reloader: Reloader) -> None:
    writer = status.Writer(tmp_path / "state", 0)
    writer.loaded(reloader)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "state").write_text("in the way")

    def tried() -> bool:
        writer.note(ALONE)
        return writer._said != ""

    wait_for(tried, 10, "the error is noticed")
    (tmp_path / "state").unlink()

    def written() -> bool:
        writer.note(ALONE)
        return bool(status.read_all(tmp_path / "state"))

    wait_for(written, 10, "the note is there")
    assert alone(tmp_path / "state") == ALONE.alone


def test_servers_that_are_left_alone_are_added_up_over_workers() -> None:
    def worker(alone: dict[str, dict[str, str]]) -> status.WorkerStatus:
        return status.WorkerStatus(0, 1, 1, "d", 0.0, "", [], alone=alone)

    one = worker({"php": {"http://u:hush@a": "takes no connection"}})
    two = worker({"php": {"http://u:hush@a": "the probe was answered with 503"}})
    (found,) = status.alone([one, two, two, worker({})])
    assert "hush" not in found.server
    assert found.says(4) == (
        "left alone in 3 of 4 workers: takes no connection; the probe was answered with 503"
    )


def test_strangers_are_added_up_over_workers() -> None:
    """Who seems to be a proxy and is not trusted."""
    workers = [
        status.WorkerStatus(0, 1, 1, "d", 0.0, "", [], strangers=strangers)
        for strangers in ({"unix": "X-Forwarded-For"}, {"unix": "Forwarded"}, {}, {"10.0.0.1": "X"})
    ]
    near, unix = status.strangers(workers)
    assert (near.peer, near.workers, unix.workers) == ("10.0.0.1", 1, 2)
    assert "all visitors who come that way are `10.0.0.1` to PHP" in near.says
    assert "all visitors who come that way are `unknown` to PHP" in unix.says
    assert "`trusted_proxies: [unix]`" in unix.do
