"""`bridgectl status`, `doctor` and `explain` about a proxy that runs, alone or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge import doctor
from bridge import settings as bridge_settings
from bridge.cli import cli
from bridge.proxy.hooks import Outcome
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry import workers as status
from bridge.proxy.telemetry.metrics import Metrics, State
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.queue.status import metrics as queue_metrics
from bridge.queue.vitals import ProcessStatus, Vitals
from bridge.settings import Settings
from bridge.sync.relay import Sources, queue_status
from stack.mongod import Mongod
from stack.ports import free_port
from tests.proxy.shells.double import Backend
from tests.proxy.site import TOP, VIEW

PAGE = f'  - {{name: page, path: "/p", handler: "{VIEW}", python: 100%}}\n'
SURE = f'  - {{name: sure, path: "/s", handler: "{VIEW}", python: 100%, fallback: false}}\n'
LOG = "{table: posts, key: id, log: true}"
BOTH = {("page", "failures"): (True, 2), ("sure", "failures"): (True, 1)}


@pytest.fixture
def legacy() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def file(tmp_path: Path, legacy: Backend) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(TOP.replace(":8090", f":{legacy.port}").replace(":8091", f":{legacy.port}"))
    path.write_text(path.read_text() + PAGE + SURE)
    return path


def bridge(*words: str, file: Path, expect: int = 0, **env: str) -> Result:
    """In this process: starting one takes longer than all of the rest."""
    unset = {name: None for name in os.environ if name.startswith("BRIDGE_")}
    done = CliRunner().invoke(cli, words, env={**unset, "BRIDGE_ROUTES": str(file), **env})
    assert done.exit_code == expect, done.output
    return done


def up(env: dict[str, str]) -> list[str]:
    """The lines of `bridge_up`."""
    settings = Settings.from_environ(env)
    text = queue_metrics(queue_status(settings, Sources.of(settings))).decode()
    return [line for line in text.splitlines() if line.startswith("bridge_up{")]


def test_a_proxy_alone_is_not_asked_for_a_queue_and_mongodb(file: Path) -> None:
    said = bridge("status", file=file).stdout
    assert said.count("not used") == 2
    assert "BRIDGE_BROKER_URL, or a sync.yaml" in said
    assert up({"BRIDGE_ROUTES": str(file)}) == []
    findings = json.loads(bridge("doctor", "-o", "json", file=file).stdout)
    assert [one["what"] for one in findings if one["says"] == "not used"] == ["broker", "MongoDB"]
    assert not [one for one in findings if one["state"] == "bad"]


def test_with_a_sync_yaml_the_usual_servers_are_asked(file: Path) -> None:
    (file.parent / "sync.yaml").write_text("version: 1\n")
    port = free_port()
    env = {
        "BRIDGE_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "BRIDGE_MONGODB_URL": f"mongodb://127.0.0.1:{port}/bridge",
    }
    found = json.loads(bridge("status", "-o", "json", file=file, expect=1, **env).stdout)
    assert sorted(found["errors"]) == ["broker", "mongodb"]


def test_who_has_a_sync_yaml_by_accident_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came with the example; a server that somebody named is wanted."""
    (file.parent / "sync.yaml").write_text("version: 1\n")
    nobody = f"127.0.0.1:{free_port()}"
    broker_url, mongodb_url = f"redis+streams://{nobody}/0", f"mongodb://{nobody}/bridge"
    for module in (bridge_settings, doctor):
        monkeypatch.setattr(module, "BROKER_URL", broker_url)
        monkeypatch.setattr(module, "MONGODB_URL", mongodb_url)

    def advice(**env: str) -> list[bool]:
        said = bridge("doctor", "-o", "json", file=file, expect=1, **env).stdout
        found = [one for one in json.loads(said) if one["what"] in ("Redis", "MongoDB")]
        assert {one["state"] for one in found} == {"bad"}
        return ["or remove" in one["do"] and "sync.yaml" in one["do"] for one in found]

    assert advice() == [True, True]
    other = f"127.0.0.1:{free_port()}"
    named = {"BRIDGE_BROKER_URL": f"redis://{other}/0", "BRIDGE_MONGODB_URL": f"mongodb://{other}"}
    assert advice(**named) == [False, False]


def test_a_mongodb_that_does_not_answer_is_named(file: Path) -> None:
    url = f"mongodb://user:hush@127.0.0.1:{free_port()}/bridge"
    said = bridge("status", file=file, expect=1, BRIDGE_MONGODB_URL=url).stdout
    assert "MongoDB does not answer" in " ".join(said.split())
    assert "refused" in said
    assert "hush" not in said
    lines = up({"BRIDGE_ROUTES": str(file), "BRIDGE_MONGODB_URL": url})
    assert lines == ['bridge_up{what="mongodb"} 0.0']


def test_a_mongodb_that_answers_is_shown(file: Path, mongodb: Mongod) -> None:
    said = bridge("status", file=file, BRIDGE_MONGODB_URL=mongodb.url).stdout
    assert "MongoDB answers" in " ".join(said.split())
    lines = up({"BRIDGE_ROUTES": str(file), "BRIDGE_MONGODB_URL": mongodb.url})
    assert lines == ['bridge_up{what="mongodb"} 1.0']


def test_the_workers_of_the_proxy_are_shown_with_their_errors(file: Path) -> None:
    assert "bridgectl serve" in bridge("status", file=file).stdout
    state = file.parent / ".bridge"
    reloader = Reloader(file, state)
    status.write(state, 0, reloader)
    row = f"proxy {os.getpid()} generation 1"
    assert row in " ".join(bridge("status", file=file).stdout.split())
    file.write_text(file.read_text().replace("python: 100%", "pyton: 100%"))
    reloader.check(force=True)
    status.write(state, 0, reloader)
    said = bridge("status", file=file).stdout
    assert f"{row} {file}:10:" in " ".join(said.split())


def open_breakers(state: Path) -> None:
    """What two workers leave behind, one with open breakers."""
    scrape.prepare(state)
    for slot in (0, 1):
        with closing(Metrics(state, slot)) as worker:
            closed = {("page", "failures"): (False, 1), ("well", "failures"): (False, 0)}
            worker.state(State(0, 0, 0, {}, closed if slot else BOTH))


def test_breakers_are_shown_with_how_often_they_opened(file: Path) -> None:
    state = file.parent / ".bridge"
    open_breakers(state)
    status.write(state, 0, Reloader(file, state))
    found = json.loads(bridge("status", "-o", "json", file=file).stdout)
    assert found["breakers"] == [
        {"route": "page", "cause": "failures", "workers": 1, "opened": 3},
        {"route": "sure", "cause": "failures", "workers": 1, "opened": 1},
    ]
    said = " ".join(bridge("status", file=file).stdout.split())
    assert "breaker: page open in 1 of 1 worker failures, opened 3 times" in said


def test_without_workers_no_breaker_is_open(file: Path) -> None:
    """A `bridgectl serve` that was killed left its numbers as they were."""
    open_breakers(file.parent / ".bridge")
    found = json.loads(bridge("status", "-o", "json", file=file).stdout)
    assert [one["workers"] for one in found["breakers"]] == [0, 0]
    assert (
        json.loads(bridge("explain", "GET", "/p", "-o", "json", file=file).stdout)["breakers"] == {}
    )


def test_explain_says_that_the_breaker_is_open(file: Path) -> None:
    state = file.parent / ".bridge"
    open_breakers(state)
    status.write(state, 0, Reloader(file, state))
    said = bridge("explain", "GET", "/p", file=file).stdout
    assert "but legacy answers now in 1 worker: breaker open, failures" in said
    found = json.loads(bridge("explain", "GET", "/p", "-o", "json", file=file).stdout)
    assert (found["backend"], found["breakers"]) == ("python", {"failures": 1})
    # A route without a fallback is not left alone for its failures.
    assert "breaker" not in bridge("explain", "GET", "/s", file=file).stdout


@contextmanager
def halted(*, dead: bool = False) -> Iterator[int]:
    """The id of a process that is there and does nothing: stopped, or ended and not yet waited
    for."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        process.send_signal(signal.SIGKILL if dead else signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def as_process(state: Path, file: Path, pid: int) -> None:
    """What a worker of `bridgectl serve` and one of `bridgectl worker` write, as if `pid` had."""
    status.write(state, 0, Reloader(file))
    with Vitals(state, "worker", dict):
        for folder, name in (("workers", "{}.json"), ("queue", "worker-{}.json")):
            own = state / folder / name.format(os.getpid())
            text = json.dumps({**json.loads(own.read_text()), "pid": pid})
            own.with_name(name.format(pid)).write_text(text)
    status.remove(state, os.getpid())


def test_who_was_stopped_does_not_look_alive(file: Path, tmp_path: Path) -> None:
    with halted() as pid:
        as_process(tmp_path / ".bridge", file, pid)
        said = " ".join(bridge("status", file=file, expect=1).stdout.split())
        assert f"proxy {pid} stopped answers no requests: kill -CONT {pid}" in said
        assert f"worker {pid} silent stopped, and does nothing: kill -CONT {pid}" in said
        findings = json.loads(bridge("doctor", "-o", "json", file=file, expect=1).stdout)
        assert any(one["do"] == f"kill -CONT {pid}" for one in findings)


def test_who_has_ended_is_not_shown(file: Path, tmp_path: Path) -> None:
    with halted(dead=True) as pid:
        as_process(tmp_path / ".bridge", file, pid)
        assert str(pid) not in bridge("status", file=file).stdout


def test_a_worker_that_says_nothing_any_more_is_named(file: Path, tmp_path: Path) -> None:
    state = tmp_path / ".bridge"
    as_process(state, file, os.getpid())
    own = state / "queue" / f"worker-{os.getpid()}.json"
    vitals = ProcessStatus("worker", os.getpid(), 0.0, time.time() - 3600, {}, {})
    own.write_text(json.dumps(asdict(vitals)))
    said = " ".join(bridge("status", file=file, expect=1).stdout.split())
    assert f"worker {os.getpid()} silent gave no sign of life for 3,6" in said


def test_a_missing_relay_is_named_where_there_is_an_outbox(file: Path, tmp_path: Path) -> None:
    assert "relay" not in bridge("status", file=file).stdout
    url = f"sqlite:///{tmp_path / 'site.db'}"
    port = free_port()
    env = {
        "BRIDGE_SQL_URL": url,
        "BRIDGE_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "BRIDGE_MONGODB_URL": f"mongodb://127.0.0.1:{port}/bridge",
    }
    said = " ".join(bridge("status", file=file, expect=1, **env).stdout.split())
    assert "relay none none runs on this machine: bridgectl relay" in said
    found = json.loads(bridge("status", "-o", "json", file=file, expect=1, **env).stdout)
    assert found["missing"] == ["worker", "relay"]


@pytest.mark.parametrize("needs_them", ["", "another entity", "an outbox"])
def test_who_reads_the_log_alone_needs_no_outbox_and_no_worker(
    file: Path, tmp_path: Path, needs_them: str
) -> None:
    """Where its database has an outbox all the same, it is shown, and who empties it."""
    other = "  user: {collection: users}\n" if needs_them == "another entity" else ""
    text = f"version: 1\nentities:\n  post: {{collection: posts, source: {LOG}}}\n{other}"
    (tmp_path / "sync.yaml").write_text(text)
    env = {
        "BRIDGE_SQL_URL": f"sqlite:///{tmp_path / 'site.db'}",
        "BRIDGE_BROKER_URL": f"redis+streams://127.0.0.1:{free_port()}/0",
        "BRIDGE_MONGODB_URL": f"mongodb://127.0.0.1:{free_port()}/bridge",
    }
    engine = connect(env["BRIDGE_SQL_URL"])
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE posts (id INTEGER PRIMARY KEY)")
    if needs_them == "an outbox":
        Outbox(engine).create()
    engine.dispose()

    found = json.loads(bridge("status", "-o", "json", file=file, expect=1, **env).stdout)
    advice = json.loads(bridge("doctor", "-o", "json", file=file, expect=1, **env).stdout)

    assert found["missing"] == (["worker", "relay"] if needs_them else [])
    assert ("outbox" in found["asked"]) == bool(needs_them)
    assert [one["state"] for one in advice if one["what"] == "outbox"] == {
        "": [], "another entity": ["bad"], "an outbox": ["ok"],
    }[needs_them]  # fmt: skip


def test_a_legacy_that_is_down_is_named(file: Path, legacy: Backend) -> None:
    text = file.read_text()
    assert "legacy php answers / with" in " ".join(bridge("status", file=file).stdout.split())
    file.write_text(text.replace(f":{legacy.port}", f":{free_port()}", 1))
    said = " ".join(bridge("status", file=file, expect=1).stdout.split())
    assert "legacy php does not answer: ConnectionError" in said
    assert "legacy old answers / with" in said
    found = json.loads(bridge("status", "-o", "json", file=file, expect=1).stdout)
    assert list(found["errors"]) == ["legacy php"]
    assert [(one["backend"], one["well"]) for one in found["legacy"]] == [
        ("php", False),
        ("old", True),
    ]


def test_shares_are_shown_with_who_answered_and_why_not_python(file: Path) -> None:
    state = file.parent / ".bridge"
    scrape.prepare(state)
    for slot in (0, 1):
        with closing(Metrics(state, slot)) as worker:
            for backend, fallback in (("python", ""), ("php", "python-error"), ("php", "")):
                outcome = Outcome("1", 1, "d", "GET", client="", started=0.0)
                outcome.route, outcome.backend, outcome.status = "page", backend, 200
                outcome.fallback, outcome.stage = fallback, "connect" if fallback else ""
                outcome.legacy = "php" if backend == "php" else ""
                worker.after_response(outcome)
    said = " ".join(bridge("status", file=file).stdout.split())
    assert (
        "share: page 100% answered by php 4, python 2; by legacy instead of Python: python-error 2"
    ) in said
    assert "share: sure 100% no request for it" in said
    assert "answered 6 php 4, python 2" in said
    assert "requests without an answer: connect 2" in said
    found = json.loads(bridge("status", "-o", "json", file=file).stdout)
    assert found["shares"][0] == {
        "name": "page",
        "python": ["100%"],
        "routes": ["page"],
        "answered": {"php": 4, "python": 2},
        "fallbacks": {"python-error": 2},
    }


def test_a_broken_file_is_named_and_the_rest_is_told(file: Path) -> None:
    file.write_text(file.read_text().replace("python: 100%", "pyton: 100%"))
    said = " ".join(bridge("status", file=file).stdout.split())
    assert f"routes.yaml broken {file}:10:" in said


SECRET = "0123456789abcdef"


@pytest.mark.parametrize(
    ("serves_with", "signs_with", "says"),
    [
        (SECRET, SECRET, []),
        ("", SECRET, ["bridgectl serve has none"]),
        ("another-secret-of-serve", SECRET, ["bridgectl serve has a value"]),
        ("abc", "abc", ["has 3 characters, which can be guessed"]),
        ("", "abc", ["can be guessed", "bridgectl serve has none"]),
        (None, SECRET, []),
    ],
)
def test_preview_says_why_its_cookie_counts_for_nothing_or_for_anybody(
    file: Path, serves_with: str | None, signs_with: str, says: list[str]
) -> None:
    """serves_with: the secret of the worker that runs; None: none runs."""
    if serves_with is not None:
        env = {"BRIDGE_ROUTES": str(file), "BRIDGE_SECRET": serves_with}
        ours = Settings.from_environ(env)
        status.write(file.parent / ".bridge", 0, Reloader(file), settings=ours)
    done = bridge("preview", "page", "python", file=file, BRIDGE_SECRET=signs_with)
    assert "bridge_preview=" in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == len(says)
    assert all(text in line for text, line in zip(says, lines, strict=True))
    if signs_with == SECRET:
        assert signs_with not in done.output.replace("bridge_preview=", "")
    done = bridge("preview", "page", "python", "-o", "json", file=file, BRIDGE_SECRET=signs_with)
    assert len(json.loads(done.stdout)["doubts"]) == len(says)
