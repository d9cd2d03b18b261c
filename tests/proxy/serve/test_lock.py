"""Whether a `bridgectl serve` that should run was killed, told from what it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.files import started_at
from bridge.proxy.serve.lock import PID_FILE, killed

GONE = 4194304  # more than Linux gives by default


def write(state: Path, pid: object, name: str = PID_FILE) -> Path:
    path = state / name
    path.write_text(f"{pid}\n", encoding="ascii")
    return path


def test_a_parent_that_is_gone_was_killed(tmp_path: Path) -> None:
    assert killed(tmp_path) is None, "a stop removes the file"
    write(tmp_path, GONE)
    assert killed(tmp_path) == GONE


def test_a_parent_that_runs_was_not(tmp_path: Path) -> None:
    write(tmp_path, os.getpid())
    assert killed(tmp_path) is None


def test_another_process_that_has_its_number_now_is_not_taken_for_it(tmp_path: Path) -> None:
    """As after a boot: the file is older than the process."""
    path = write(tmp_path, os.getpid())
    began = started_at(os.getpid())
    assert began is not None
    os.utime(path, (began - 3600, began - 3600))
    assert killed(tmp_path) == os.getpid()


def test_the_next_parent_takes_its_place(tmp_path: Path) -> None:
    write(tmp_path, GONE)
    write(tmp_path, os.getpid(), f"{PID_FILE}.2")
    assert killed(tmp_path) is None
    write(tmp_path, GONE, f"{PID_FILE}.2")
    assert killed(tmp_path) == GONE


@pytest.mark.parametrize("text", ["", "none", "-", "1\n2"])
def test_a_file_that_names_no_process_says_nothing(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert killed(tmp_path) is None


def test_the_start_of_a_process_is_known() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        own, others = started_at(os.getpid()), started_at(child.pid)
        assert own is not None
        assert others is not None
        assert own <= others
        child.communicate(b"\n")
    assert started_at(GONE) is None
