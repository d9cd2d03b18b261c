"""Servers do not outlive the process that started them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stack.process import REPOSITORY
from stack.sessions import members
from stack.waiting import wait_for

pytestmark = pytest.mark.acceptance

PARENT = """
import signal, sys
from pathlib import Path
from stack.php import PhpServer
from stack.redis import Redis

# A run in the background of a shell has it ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
home = Path(sys.argv[1])
servers = [Redis(home / "redis").start(), PhpServer(home / "php", home, workers=2).start()]
print(*[server.pid for server in servers], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Any:
    """A process that has started two servers and waits until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


def sessions_of(parent: subprocess.Popen[str]) -> list[int]:
    """The sessions of its servers; waits until they are ready."""
    assert parent.stdout is not None
    sessions = [int(word) for word in parent.stdout.readline().split()]
    # PHP listens before it has forked its workers.
    wait_for(
        lambda: [len(members(session)) for session in sessions] == [1, 3], what="all processes"
    )
    return sessions


def test_servers_end_when_their_parent_is_killed(
    parent: subprocess.Popen[str],
) -> None:
    """kill -9 of the parent: no server and no forked worker is left."""
    sessions = sessions_of(parent)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(members, sessions)), what="all servers gone")


def test_servers_end_when_their_parent_forgets_to_stop_them(
    parent: subprocess.Popen[str],
) -> None:
    """A regular exit ends them before the parent is gone."""
    sessions = sessions_of(parent)
    assert parent.stdin is not None
    parent.stdin.close()
    parent.wait()
    assert not any(map(members, sessions))


def test_ctrl_c_reaches_the_parent_only(
    parent: subprocess.Popen[str],
) -> None:
    """SIGINT to the parent's group leaves the servers to the parent's orderly stop."""
    sessions = sessions_of(parent)
    assert {os.getpgid(session) for session in sessions} == set(sessions)
    os.killpg(parent.pid, signal.SIGINT)
    parent.wait()
    wait_for(lambda: not any(map(members, sessions)), what="all servers gone")
