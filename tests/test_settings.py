"""Where things are when nobody says so, and what is only a default."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.settings import Settings


def test_sync_yaml_and_the_state_are_beside_routes_yaml(tmp_path: Path) -> None:
    found = Settings.from_environ({"BRIDGE_ROUTES": str(tmp_path / "routes.yaml")})
    assert (found.sync, found.state_dir) == (tmp_path / "sync.yaml", tmp_path / ".bridge")
    assert Settings.from_environ({}).sync == Path("sync.yaml")
    assert Settings.from_environ({"BRIDGE_SYNC": "/x/s.yaml"}).sync == Path("/x/s.yaml")


@pytest.mark.parametrize(
    ("named", "uses"),
    [
        ({}, (False, False)),
        ({"BRIDGE_BROKER_URL": ""}, (False, False)),
        ({"BRIDGE_BROKER_URL": "redis://127.0.0.1/0"}, (True, False)),
        ({"BRIDGE_MONGODB_URL": "mongodb://127.0.0.1/b"}, (False, True)),
        ({"BRIDGE_SQL_URL": "sqlite:///site.sqlite"}, (True, True)),
    ],
)
def test_a_server_is_used_when_it_is_named_or_there_is_something_to_carry(
    tmp_path: Path, named: dict[str, str], uses: tuple[bool, bool]
) -> None:
    env = {"BRIDGE_ROUTES": str(tmp_path / "routes.yaml"), **named}
    found = Settings.from_environ(env)
    assert (found.uses_broker, found.uses_mongodb) == uses
    (tmp_path / "sync.yaml").write_text("version: 1\n")
    found = Settings.from_environ(env)
    assert (found.uses_broker, found.uses_mongodb) == (True, True)
