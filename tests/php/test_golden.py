"""The golden corpus: every PHP from 5.2.17 to 8.5 sends the same events, and Python reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge.queue.events import Event
from bridge.sync.freshness import Entry, Keys
from stack.oldphp import WITH_SOCKETS, WITHOUT_SOCKETS, run_old_php
from stack.php import run_php
from stack.ports import free_port
from stack.process import REPOSITORY
from stack.redis import Redis
from stack.waiting import wait_for
from tests.php.page_site import events_on

HERE = Path(__file__).parent
SCRIPT = HERE / "golden.php"
CASES: list[dict[str, Any]] = json.loads(
    (REPOSITORY / "tests" / "golden" / "events.json").read_text(encoding="utf-8")
)
TOKENS: dict[str, Any] = json.loads(
    (REPOSITORY / "tests" / "golden" / "freshness.json").read_text(encoding="utf-8")
)
FOLDERS = [REPOSITORY / "php", REPOSITORY / "tests" / "golden"]
HERES = "8.2"
"""Debian's own PHP, which needs no WebAssembly."""


def produce(version: str, **env: str) -> dict[str, Any]:
    """What golden.php says when PHP `version` runs it."""
    if version == HERES:
        said = run_php(SCRIPT, env=env)
    else:
        folders = [*FOLDERS, *(Path(path) for path in [env.get("GOLDEN_SPOOL")] if path)]
        said = run_old_php(version, SCRIPT, folders=folders, env=env)
    return json.loads(said)


def expected(case: dict[str, Any]) -> str:
    """Everything that must arrive, as text in which 1 and 1.0 differ."""
    fields = case["expected"]
    return repr({name: unfolded(fields[name]) for name in sorted(fields)})


def unfolded(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"repeat"}:
            return value["repeat"][0] * value["repeat"][1]
        return {name: unfolded(inner) for name, inner in value.items()}
    return value


def arrived(event: Event) -> str:
    names = ("change", "data", "entity", "key", "version")
    return repr({name: getattr(event, name) for name in names})


def check(said: dict[str, Any], version: str, events: list[Event]) -> None:
    """All cases that this PHP can have were made, and arrived as they must."""
    assert said["php"].startswith(version + ".")
    assert said["errors"] == []
    wanted = [case for case in CASES if case.get("bits", 32) <= said["bits"]]
    assert said["made"] == [case["name"] for case in wanted]
    assert len(events) == len(wanted)
    for case, event in zip(wanted, events, strict=True):
        assert arrived(event) == expected(case), case["name"]
        assert event.source == "/golden"


def check_tokens(said: dict[str, Any]) -> None:
    """The tokens of visitors' own edits: this PHP signs and believes what Python does."""
    assert said["signed"] == {case["name"]: case["token"] for case in TOKENS["sign"]}
    assert said["verified"] == {case["name"]: case["entries"] for case in TOKENS["verify"]}


def test_python_signs_and_believes_the_same_tokens() -> None:
    keys = Keys([tuple(TOKENS["key"].split(":"))])
    rows = {case["name"]: case["entries"] for case in TOKENS["sign"]}
    signed = {
        name: keys.sign(Entry(e, k, int(v), int(t)) for e, k, v, t in entries)
        for name, entries in rows.items()
    }
    verified = {
        case["name"]: [
            [entry.entity, entry.key, str(entry.version), str(entry.time)]
            for entry in keys.verify(case["token"], TOKENS["now"])
        ]
        for case in TOKENS["verify"]
    }
    check_tokens({"signed": signed, "verified": verified})


def test_the_corpus_is_what_the_python_side_would_send_too() -> None:
    """An event made by Python survives its own JSON in the same way."""
    for case in CASES:
        fields = {name: unfolded(value) for name, value in case["expected"].items()}
        assert arrived(Event.parse(Event(**fields).to_json())) == expected(case), case["name"]


def test_the_names_of_the_cases_are_unique() -> None:
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize("version", [*WITHOUT_SOCKETS, "7.4", HERES, "8.5"])
def test_every_php_spools_the_corpus(version: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    said = produce(version, GOLDEN_SPOOL=str(spool))

    lines = (spool / "current.spool").read_bytes().splitlines()
    check(said, version, [Event.parse(line) for line in lines])
    check_tokens(said)


@pytest.mark.parametrize("version", [*WITH_SOCKETS, HERES])
def test_every_php_with_sockets_publishes_the_corpus(
    version: str, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    said = produce(version, GOLDEN_PORT=str(redis_server.port))

    check(said, version, events_on(clean_redis))


@pytest.mark.parametrize("version", WITH_SOCKETS)
def test_every_php_with_sockets_opens_its_breaker_and_closes_it_again(
    version: str, tmp_path: Path
) -> None:
    script = tmp_path / "page.php"
    script.write_text(
        f"""<?php error_reporting(-1); ini_set('display_errors', '1');
        require '{REPOSITORY}/php/BridgeProducer.php';
        $bridge = new BridgeProducer(array('port' => (int) getenv('PORT'),
            'breaker_file' => dirname(__FILE__) . '/down', 'timeout_ms' => 2000));
        $done = $bridge->publish('project', 'deleted', 'k', 1);
        echo json_encode(array($done, $bridge->error()));
        """,
        encoding="utf-8",
    )

    def publish(port: int) -> list[Any]:
        said = run_old_php(version, script, folders=FOLDERS, env={"PORT": str(port)})
        return json.loads(said)

    done, error = publish(free_port())
    assert not done
    assert (tmp_path / "down").exists(), error
    with Redis(tmp_path / "redis") as server:
        assert publish(server.port) == [False, "Redis did not answer a moment ago; not tried"]
        wait_for(lambda: publish(server.port) == [True, ""], what="the breaker closes")
