"""A change of routes.yaml: live in every worker within a second, all of it or nothing of it."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.proxy.routing.load import load_text
from stack.php import PhpServer
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite, run_bridge
from tests.acceptance.raw_http import Answer, ask, request

pytestmark = pytest.mark.acceptance

LIVE_WITHIN = 1.0
"""Seconds; what the bridge promises."""

TABLE = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php, response_headers: {set: {X-Table: @NAME@}}}
backends:
  php: {url: "@PHP@"}
routes:
  - {name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: @SHARE@}
"""
BROKEN = TABLE.replace("python: @SHARE@", "pyton: 0%")


def table(php: str, name: str, share: str = "0%", text: str = TABLE) -> str:
    """A table that can be told from others by the header X-Table of every answer."""
    return text.replace("@PHP@", php).replace("@NAME@", name).replace("@SHARE@", share)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, php: PhpServer) -> Iterator[BridgeSite]:
    directory = tmp_path_factory.mktemp("reload")
    with BridgeSite(directory, table(php.url, "first"), workers=2, operator=True) as site:
        yield site


_names = (f"t{number}" for number in itertools.count(1))


@pytest.fixture
def site(running: BridgeSite, php: PhpServer) -> BridgeSite:
    """Two workers that run a good table, whatever the test before left."""
    name = next(_names)
    if running.routes.is_symlink():
        running.routes.unlink()
    make_live(running, table(php.url, name), within=5)
    return running


def make_live(site: BridgeSite, text: str, within: float = LIVE_WITHIN) -> None:
    """Replace the file by a good one and wait until both workers run it."""
    replace(site, text)
    digest = load_text(site.text(text), site.routes).digest
    site.live(lambda w: w.digest == digest and not w.error, within, "both workers run it")


def break_it(site: BridgeSite, php: PhpServer) -> None:
    """Replace the file by a broken one and wait until both workers have seen it."""
    replace(site, table(php.url, "bad", text=BROKEN))
    site.live(lambda w: bool(w.error), LIVE_WITHIN, "the error in both workers")


def replace(site: BridgeSite, text: str) -> None:
    """By rename, as `bridgectl flip` and most editors do."""
    site.write(text)


def overwrite(site: BridgeSite, text: str) -> None:
    """In place, as `cp` and some editors do: for a moment the file is empty."""
    site.routes.write_text(site.text(text), encoding="utf-8")


def overwrite_in_pieces(site: BridgeSite, text: str) -> None:
    """In place and slowly, so that half a file is seen."""
    half = len(site.text(text)) // 2
    with site.routes.open("w", encoding="utf-8") as file:
        file.write(site.text(text)[:half])
        file.flush()
        # The workers look at half of it before the rest comes.
        wait_for(
            lambda: any(worker.error for worker in site.workers()), 5, "a worker saw half a file"
        )
        file.write(site.text(text)[half:])


def swap_link(site: BridgeSite, text: str) -> None:
    """As Kubernetes does with a ConfigMap: routes.yaml -> ..data/routes.yaml, ..data -> a
    directory, and the link ..data is replaced."""
    folder = site.routes.parent
    version = folder / f"..version-{time.monotonic_ns()}"
    version.mkdir()
    (version / "routes.yaml").write_text(site.text(text), encoding="utf-8")
    link = folder / "..data_new"
    link.symlink_to(version.name)
    link.replace(folder / "..data")
    if not site.routes.is_symlink():
        link.symlink_to("..data/routes.yaml")
        link.replace(site.routes)


def change_behind_a_link(site: BridgeSite, text: str) -> None:
    """routes.yaml is a link into another folder, of which the bridge gets no events."""
    elsewhere = site.directory / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    new = elsewhere / "new"
    new.write_text(site.text(text), encoding="utf-8")
    new.replace(elsewhere / "routes.yaml")
    if not site.routes.is_symlink():
        new.symlink_to(elsewhere / "routes.yaml")
        new.replace(site.routes)


def get(site: BridgeSite, target: str = "/hello") -> Answer:
    return ask(site.address, request("GET", target, site.address))


def tables_of(site: BridgeSite) -> set[str]:
    """The tables that answer a few requests on connections of their own."""
    return {get(site).get("X-Table") or "" for _ in range(6)}


def metric(site: BridgeSite, name: str) -> float:
    answer = ask(site.operator, request("GET", "/metrics", site.operator))
    lines = [line for line in answer.body.decode().splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[1])


@pytest.mark.parametrize(
    "change", [replace, overwrite, overwrite_in_pieces, swap_link, change_behind_a_link]
)
def test_a_change_is_live_in_every_worker_within_a_second(
    site: BridgeSite, php: PhpServer, change: Callable[[BridgeSite, str], None]
) -> None:
    for name in ("one", "two"):  # the second time, the link is there already
        before = {worker.pid: worker.generation for worker in site.workers()}
        change(site, table(php.url, f"{change.__name__}-{name}"))
        site.live(
            lambda worker, before=before: worker.generation > before[worker.pid],
            LIVE_WITHIN,
            "the new table in both workers",
        )
        assert tables_of(site) == {f"{change.__name__}-{name}"}
        assert {worker.pid for worker in site.workers()} == set(before)


def test_touching_the_file_makes_no_new_table(site: BridgeSite, php: PhpServer) -> None:
    before = [(worker.pid, worker.generation) for worker in site.workers()]
    os.utime(site.routes)
    replace(site, site.routes.read_text(encoding="utf-8"))
    site.server.signal(signal.SIGHUP)
    replace(site, table(php.url, "other"))
    site.live(lambda worker: worker.generation > dict(before)[worker.pid], 1, "another table")
    assert [(w.pid, w.generation) for w in site.workers()] == [(p, g + 1) for p, g in before]


def test_bridge_routes_shows_what_runs_in_each_worker(site: BridgeSite, php: PhpServer) -> None:
    replace(site, table(php.url, "shown", share="12.5%"))
    shares = {"12.5%"}
    site.live(lambda w: {row["python"] for row in w.rows} == shares, LIVE_WITHIN, "the share")
    said = site.bridge_json("routes")
    assert [route["python"] for route in said["routes"]] == ["12.5%"]
    assert {worker["digest"] for worker in said["workers"]} == {said["file"]["table"]}
    assert [worker["error"] for worker in said["workers"]] == ["", ""]


def test_a_broken_file_changes_nothing_and_is_seen_everywhere(
    site: BridgeSite, php: PhpServer
) -> None:
    make_live(site, table(php.url, "good"))
    log_before = len(site.server.log_text())
    break_it(site, php)
    assert tables_of(site) == {"good"}
    assert metric(site, "bridge_routes_broken") == 1
    health = ask(site.operator, request("GET", "/health", site.operator))
    assert health.status == 503
    said = site.bridge_json("routes")
    for error in (said["file"]["error"], *(worker["error"] for worker in said["workers"])):
        assert "routes.yaml:7:" in error
        assert "pyton" in error
    assert "old table: the file is broken" in site.bridge("routes").stdout
    log = site.server.log_text()[log_before:]
    assert log.count("routes.yaml is broken; the old table stays") == 2
    assert "pyton" in log


def test_mending_the_file_is_enough(site: BridgeSite, php: PhpServer) -> None:
    break_it(site, php)
    make_live(site, table(php.url, "mended"))
    assert tables_of(site) == {"mended"}
    assert metric(site, "bridge_routes_broken") == 0


def test_going_back_to_the_table_that_runs_mends_it_too(site: BridgeSite) -> None:
    good = site.routes.read_text(encoding="utf-8")
    before = [(worker.pid, worker.generation) for worker in site.workers()]
    site.routes.unlink()
    site.live(lambda w: "cannot be read" in w.error, LIVE_WITHIN, "the missing file is said")
    replace(site, good)
    site.live(lambda w: not w.error, LIVE_WITHIN, "no error any more")
    assert [(worker.pid, worker.generation) for worker in site.workers()] == before


def test_a_handler_that_breaks_and_is_mended_needs_no_touch_of_routes_yaml(
    tmp_path: Path, php: PhpServer
) -> None:
    """The module is not a file that is watched; the failed load is tried again by itself."""
    code = tmp_path / "code"
    code.mkdir()
    text = table(php.url, "late", share="100%").replace(
        "tests.acceptance.apps.handlers", "late_views"
    )
    env = {"PYTHONPATH": f"{REPOSITORY}:{code}"}
    with BridgeSite(tmp_path / "site", table(php.url, "early"), env=env) as site:
        replace(site, text)
        site.live(lambda w: "no module `late_views`" in w.error, LIVE_WITHIN, "the error")
        view = "from tests.acceptance.apps.handlers import hello\n"
        (code / "late_views.py").write_text(view, encoding="utf-8")
        site.live(lambda w: not w.error, 5, "the second attempt")
        assert get(site).body == b"python\n"


def test_a_handler_that_cannot_be_imported_holds_up_nothing_else(
    tmp_path: Path, php: PhpServer
) -> None:
    """The route of the broken module keeps the handler that it has, or is legacy's; shares go up
    and down as ever, also when every worker was killed."""
    code = tmp_path / "code"
    code.mkdir()
    good = "from tests.acceptance.apps.handlers import hello\n"
    (code / "late_views.py").write_text(good, encoding="utf-8")
    env = {"PYTHONPATH": f"{REPOSITORY}:{code}"}
    text = table(php.url, "one", share="100%").replace(
        "tests.acceptance.apps.handlers", "late_views"
    )
    with BridgeSite(tmp_path / "site", text, env=env) as site:
        assert get(site).body == b"python\n"
        (code / "late_views.py").write_text("this is no Python", encoding="utf-8")
        replace(site, text.replace(':hello"', ':helo"'))  # which no running worker has either
        site.live(lambda w: "has no `helo`" in w.error, LIVE_WITHIN, "the error")
        assert get(site).body == b"python\n"
        back = site.bridge("flip", "hello", "0%", "--why", "it fails")
        assert back.returncode == 0, back.stderr
        assert get(site).body != b"python\n"
        for worker in site.workers():
            os.kill(worker.pid, signal.SIGKILL)
        site.live(lambda w: "invalid syntax" in w.error, 15, "new workers that say what is wrong")
        assert get(site).status == 200
        (code / "late_views.py").write_text(good + "helo = hello\n", encoding="utf-8")
        site.live(lambda w: not w.error, 10, "the module to be mended")
        assert site.bridge("flip", "hello", "100%", "--why", "mended").returncode == 0
        assert get(site).body == b"python\n"


def test_after_a_reboot_the_last_good_table_is_served(tmp_path: Path, php: PhpServer) -> None:
    with BridgeSite(tmp_path / "site", table(php.url, "good")) as site:
        site.server.stop()
        replace(site, table(php.url, "bad", text=BROKEN))
        site.start()
        assert tables_of(site) == {"good"}
        assert "serving all the same" in site.server.log_text()
        assert all(worker.error for worker in site.workers())


def test_sighup_reloads_at_once_and_replaces_no_worker(site: BridgeSite, php: PhpServer) -> None:
    workers = {worker.pid for worker in site.workers()}
    text = table(php.url, "hup")
    replace(site, text)
    site.server.signal(signal.SIGHUP)
    digest = load_text(site.text(text), site.routes).digest
    site.live(lambda w: w.digest == digest, LIVE_WITHIN, "the new table in both workers")
    replace(site, table(php.url, "bad", text=BROKEN))
    site.server.signal(signal.SIGHUP)
    site.live(lambda w: bool(w.error), LIVE_WITHIN, "the error in both workers")
    assert {worker.pid for worker in site.workers()} == workers
    assert tables_of(site) == {"hup"}


def test_a_worker_killed_while_the_file_is_broken_comes_back_with_the_last_good_table(
    site: BridgeSite, php: PhpServer
) -> None:
    make_live(site, table(php.url, "last-good"))
    break_it(site, php)
    killed, other = (worker.pid for worker in site.workers())
    os.kill(killed, signal.SIGKILL)
    site.live(lambda w: w.pid != killed, 15, "a new worker")
    assert other in {worker.pid for worker in site.workers()}
    assert all(worker.error for worker in site.workers())
    assert tables_of(site) == {"last-good"}
    assert "running the last good one" in site.server.log_text()
    make_live(site, table(php.url, "mended"))
    assert tables_of(site) == {"mended"}


def test_a_broken_file_at_the_first_start_is_told_with_its_lines(tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"
    text = table("http://127.0.0.1:9", "x", text=BROKEN).replace("legacy: php", "legacy: hph")
    routes.write_text(text, encoding="utf-8")
    done = run_bridge(
        *("serve", "--bind", "127.0.0.1:1"),
        env={"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(tmp_path / "state")},
    )
    assert done.returncode == 3
    assert f"{routes}:3:" in done.stderr
    assert f"{routes}:7:" in done.stderr
    assert "did you mean" in done.stderr.lower()
    assert "Traceback" not in done.stderr
