"""The quick start of the README, command by command, with a PHP site and a port of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.php import PhpServer
from stack.ports import free_port
from stack.process import REPOSITORY

pytestmark = pytest.mark.acceptance

BEGIN = "```sh\nbridgectl example site"


def block() -> str:
    """The commands that the README gives."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == 1
    return text[text.index(BEGIN) :].removeprefix("```sh\n").partition("```")[0]


def test_the_quick_start_does_what_its_comments_say(tmp_path: Path, php: PhpServer) -> None:
    address = f"127.0.0.1:{free_port()}"
    commands = block()
    assert len(commands.splitlines()) == 10
    for old, new in {"10.0.0.7:80": php.address, "127.0.0.1:8080": address}.items():
        assert old in commands
        commands = commands.replace(old, new)
    # A person waits until it serves before they ask.
    wait = "--retry 60 --retry-connrefused --retry-delay 1 -s -w '\\n%{http_code}\\n'"
    commands = commands.replace("curl ", f"curl {wait} ")
    # What it started ends with it.
    script = f"set -e\ntrap 'kill $(jobs -p)' EXIT\n{commands}"
    inherited = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert "routes.yaml is good" in said
    places = [
        said.index("GET /\n"),
        said.index("\n421\n"),
        said.index("GET /hello/you\n"),
        said.index("hello: 0% → 100%"),
        said.index("<h1>Hello you</h1>"),
    ]
    assert places == sorted(places)
