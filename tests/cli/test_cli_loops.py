"""Redirect loops as an operator sees them: `bridgectl check --follow`, `bridgectl status`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from bridge.errors import BridgeError
from bridge.proxy.hooks import Outcome
from bridge.proxy.telemetry import metrics, scrape
from stack.ports import free_port
from tests.proxy.shells.double import Backend, plain
from tests.proxy.site import TOP, VIEW


@pytest.fixture
def legacy() -> Iterator[Backend]:
    with Backend() as backend:
        backend.when("/there", plain("302 Found", "Location: /back"))
        backend.when("/back", plain("302 Found", "Location: /there"))
        yield backend


@pytest.fixture
def file(tmp_path: Path, legacy: Backend) -> Path:
    path = tmp_path / "routes.yaml"
    top = TOP.replace(":8090", f":{legacy.port}")
    path.write_text(f'{top}  - {{name: page, path: "/p", handler: "{VIEW}", python: 0%}}\n')
    return path


def bridge(*words: str, file: Path, expect: int = 0, **env: str) -> Result:
    """In this process: starting one takes longer than all of the rest."""
    done = CliRunner().invoke(cli, words, env={"BRIDGE_ROUTES": str(file), **env})
    assert done.exit_code == expect, done.output
    return done


def test_check_follow_shows_loops_and_exits_with_1(file: Path) -> None:
    said = bridge("check", "--follow", "/there", file=file, expect=1).stdout
    assert "redirect loop 1:" in said
    assert "http://forge.example/back\n    → http://forge.example/there" in said
    found = json.loads(bridge("check", "--follow", "/", "/there", "-o", "json", file=file,
                              expect=1).stdout)  # fmt: skip
    assert (found["ok"], found["errors"]) == (False, [])
    assert found["follow"]["complete"] is True
    (loop,) = found["follow"]["loops"]
    assert [hop["url"] for hop in loop["hops"]] == [
        "http://forge.example/back",
        "http://forge.example/there",
    ]
    assert loop["hops"][0]["sides"] == ["legacy"]


def test_check_follow_says_that_there_is_none(file: Path) -> None:
    said = bridge("check", "--follow", "/", "http://forge.example/x", file=file).stdout
    assert "no redirect loop from 2 addresses, 2 requests" in said
    found = json.loads(bridge("check", "--follow", "/", "-o", "json", file=file).stdout)
    assert (found["ok"], found["follow"]["good"]) == (True, True)


def test_check_follow_says_when_legacy_does_not_answer(file: Path, legacy: Backend) -> None:
    file.write_text(file.read_text().replace(f":{legacy.port}", f":{free_port()}"))
    said = bridge("check", "--follow", "/", file=file, expect=1).stdout
    assert "no answer from legacy to http://forge.example/: 502, connect" in said


def test_check_follow_wants_addresses_of_a_site(file: Path) -> None:
    assert "belong together" in bridge("check", "--follow", file=file, expect=2).stderr
    assert "belong together" in bridge("check", "/there", file=file, expect=2).stderr
    refused = bridge("check", "--follow", "http://elsewhere.example/", file=file, expect=1)
    assert isinstance(refused.exception, BridgeError)
    assert "add it to `hosts:`" in str(refused.exception)


def test_status_shows_the_loops_that_were_stopped(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    scrape.prepare(state)
    for slot in (0, 1):
        with closing(metrics.Metrics(state, slot)) as worker:
            for name in ("a (php) → b (python)", "c (php)")[slot:]:
                worker.after_response(Outcome("id", 1, "digest", status=508, loop=name))
    env = {
        "BRIDGE_STATE_DIR": str(state),
        "BRIDGE_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "BRIDGE_SYNC": str(tmp_path / "none.yaml"),
    }
    found = json.loads(bridge("status", "-o", "json", file=file, expect=1, **env).stdout)
    assert found["redirect_loops"] == [
        {"routes": "a (php) → b (python)", "stopped": 1},
        {"routes": "c (php)", "stopped": 2},
    ]
    lines = bridge("status", file=file, expect=1, **env).stdout.splitlines()
    shown = [line.split(maxsplit=4) for line in lines if line.startswith("redirect loops")]
    assert [(row[3], row[4].strip()) for row in shown] == [
        ("2", "c (php)"),
        ("1", "a (php) → b (python)"),
    ]
