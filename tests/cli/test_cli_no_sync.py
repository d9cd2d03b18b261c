"""Verbs of the mirror where there is no sync.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import cli
from bridge.errors import BridgeError
from stack.ports import free_port


@pytest.mark.parametrize(
    "words",
    ["worker", "reconcile", "snapshot", "snapshot project", "snapshot --pause", "sync init",
     "snapshot --rewrite --dry-run", "sync types", "sync triggers", "reconcile project"],
)  # fmt: skip
def test_where_there_is_no_sync_yaml_it_is_said(tmp_path: Path, words: str) -> None:
    """With the place, and the command that writes one; no server is asked for that."""
    nobody = f"127.0.0.1:{free_port()}"
    env = {
        "BRIDGE_ROUTES": str(tmp_path / "routes.yaml"),
        "BRIDGE_SQL_URL": f"mysql://u:p@{nobody}/shop",
        "BRIDGE_BROKER_URL": f"redis://{nobody}/0",
        "BRIDGE_MONGODB_URL": f"mongodb://{nobody}/bridge",
    }
    done = CliRunner().invoke(cli, words.split(), env=env)
    error = done.exception
    assert isinstance(error, BridgeError), done.output
    assert f"there is no sync.yaml ({tmp_path / 'sync.yaml'})" in str(error)
    assert "`bridgectl example site` writes one" in str(error)
    (tmp_path / "sync.yaml").write_text("version: 1\n")
    done = CliRunner().invoke(cli, words.split(), env=env)
    assert "there is no sync.yaml" not in f"{done.exception}{done.output}"
