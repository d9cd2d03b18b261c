"""`bridgectl doctor` against real servers: quiet when all is well, and plain when it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from stack.mongod import Mongod
from stack.php import PhpServer
from stack.ports import free_port
from stack.redis import Redis
from tests.acceptance.bridge_site import BridgeSite, run_bridge

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@", timeouts: {connect: 1s}}
routes:
  - {name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: 100%}
"""


@dataclass
class Patient:
    """A configuration to examine; `env` is what `bridgectl doctor` is started with."""

    directory: Path
    env: dict[str, str] = field(default_factory=dict)

    def examine(self) -> tuple[int, dict[str, list[dict[str, str]]], str]:
        """Exit code, the findings that are not ok, by subject, and all that was said."""
        done = run_bridge("doctor", "-o", "json", env=self.env)
        findings = json.loads(done.stdout)
        wrong: dict[str, list[dict[str, str]]] = {}
        for finding in findings:
            if finding["state"] != "ok":
                wrong.setdefault(finding["what"], []).append(finding)
        return done.returncode, wrong, done.stdout + done.stderr


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis whose settings these tests change."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def patient(tmp_path: Path, php: PhpServer, own_redis: Redis, mongodb: Mongod) -> Patient:
    """All servers are there and as they should be, but no worker of the bridge runs."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(
        ROUTES.replace("@PHP@", php.url).replace("@ADDRESS@", "www.example.org"), encoding="utf-8"
    )
    return Patient(
        tmp_path,
        {
            "BRIDGE_ROUTES": str(routes),
            "BRIDGE_STATE_DIR": str(tmp_path / "state"),
            "BRIDGE_BROKER_URL": own_redis.url,
            "BRIDGE_MONGODB_URL": mongodb.url,
            "BRIDGE_SECRET": "only-for-these-tests",
        },
    )


def test_a_site_that_runs_is_all_well(
    tmp_path: Path, php: PhpServer, own_redis: Redis, mongodb: Mongod
) -> None:
    env = {
        "BRIDGE_BROKER_URL": own_redis.url,
        "BRIDGE_MONGODB_URL": mongodb.url,
        "BRIDGE_SECRET": "only-for-these-tests",
    }
    with BridgeSite(tmp_path, ROUTES.replace("@PHP@", php.url), workers=2, env=env) as site:
        findings = site.bridge_json("doctor")
    assert {finding["state"] for finding in findings} == {"ok"}
    subjects = {finding["what"] for finding in findings}
    assert {"routes.yaml", "legacy php", "workers", "Redis", "MongoDB"} <= subjects


def test_without_workers_it_says_how_to_start_them(patient: Patient) -> None:
    code, wrong, _ = patient.examine()
    assert code == 0
    assert list(wrong) == ["workers"]
    assert wrong["workers"][0]["state"] == "note"
    assert "bridgectl serve" in wrong["workers"][0]["do"]


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("appendonly", "no", "no append-only file"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru"),
    ],
)
def test_a_redis_that_loses_events_is_found(
    patient: Patient, own_redis: Redis, setting: str, value: str, says: str
) -> None:
    with own_redis.client() as client:
        good = client.config_get(setting)[setting]
        client.config_set(setting, value)
        try:
            code, wrong, _ = patient.examine()
        finally:
            client.config_set(setting, good)
    assert code == 1
    (finding,) = wrong["Redis"]
    assert says in finding["says"]
    assert f"config set {setting} {good}" in finding["do"]


class Standalone(Mongod):
    """A mongod as `apt install` starts it: no replica set."""

    def command(self) -> Sequence[str]:
        words = list(super().command())
        at = words.index("--replSet")
        return words[:at] + words[at + 2 :]

    def ready(self) -> bool:
        with MongoClient(f"mongodb://{self.address}/", serverSelectionTimeoutMS=500) as client:
            try:
                return bool(client.admin.command("ping"))
            except PyMongoError:
                return False


def test_a_mongodb_without_a_replica_set_is_found(patient: Patient, tmp_path: Path) -> None:
    with Standalone(tmp_path / "mongod") as server:
        patient.env["BRIDGE_MONGODB_URL"] = f"mongodb://{server.address}/bridge"
        code, wrong, _ = patient.examine()
    assert code == 1
    (finding,) = wrong["MongoDB"]
    assert "not a replica set" in finding["says"]
    assert "--replSet" in finding["do"]


@pytest.mark.parametrize("what", ["legacy php", "Redis", "MongoDB"])
def test_a_server_that_is_down_is_named_with_its_address(patient: Patient, what: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    if what == "legacy php":
        routes = Path(patient.env["BRIDGE_ROUTES"])
        text = ROUTES.replace("@PHP@", f"http://{address}").replace("@ADDRESS@", "a.example")
        routes.write_text(text, encoding="utf-8")
    elif what == "Redis":
        patient.env["BRIDGE_BROKER_URL"] = f"redis://{address}/0"
    else:
        patient.env["BRIDGE_MONGODB_URL"] = f"mongodb://{address}/bridge"
    code, wrong, said = patient.examine()
    assert code == 1
    (finding,) = wrong[what]
    assert "does not answer" in finding["says"]
    assert address in finding["where"]
    assert finding["do"]
    assert "Traceback" not in said


def test_a_wrong_password_is_never_printed(
    patient: Patient, own_redis: Redis, mongodb: Mongod
) -> None:
    patient.env["BRIDGE_BROKER_URL"] = f"redis://user:pa55word@{own_redis.address}/0"
    patient.env["BRIDGE_MONGODB_URL"] = (
        f"mongodb://user:pa55word@{mongodb.address}/bridge?directConnection=true&appname=pa55word"
    )
    with own_redis.client() as client:
        client.config_set("requirepass", "another")
        try:
            code, wrong, said = patient.examine()
            table = run_bridge("doctor", env=patient.env)
        finally:
            client.config_set("requirepass", "")
    assert code == 1
    assert {"Redis", "MongoDB"} <= set(wrong)
    for text in (said, table.stdout, table.stderr):
        assert "pa55word" not in text
        assert "Traceback" not in text
    assert f"redis://user:***@{own_redis.address}/0" in said


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BRIDGE_BROKER_URL", "redis://:pa55word@127.0.0.1:none/0"),
        ("BRIDGE_BROKER_URL", "redis://:pa55word@[::1/0"),
        ("BRIDGE_MONGODB_URL", "mongodb://user:pa55word@/bridge"),
        ("BRIDGE_MONGODB_URL", "mongodb://user:pa55:word@127.0.0.1:1/bridge"),
        ("BRIDGE_MONGODB_URL", "mongodb+srv://user:pa55word@127.0.0.1/bridge"),
    ],
)
def test_a_url_that_is_no_url_is_said_so_without_its_password(
    patient: Patient, name: str, url: str
) -> None:
    patient.env[name] = url
    code, wrong, said = patient.examine()
    assert code == 1
    assert {"Redis", "broker", "MongoDB"} & set(wrong)
    assert "pa55" not in said
    assert "Traceback" not in said
