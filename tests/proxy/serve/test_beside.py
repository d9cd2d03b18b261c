"""What the parent keeps beside its workers: started when wanted, replaced when it ends or hangs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.proxy.serve.beside import Beside
from stack.waiting import wait_for

Make = Callable[..., Beside]
NOTES = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')"
STAYS = f"{NOTES}; time.sleep(600)"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def make(log: Path) -> Iterator[Make]:
    made: list[Beside] = []

    def one(code: str = STAYS, **options: object) -> Beside:
        options = {"again": 0.05} | options
        beside = Beside([sys.executable, "-c", code, str(log)], **options)  # type: ignore[arg-type]
        made.append(beside)
        return beside

    yield one
    for beside in made:
        beside.stop()


def started(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def kept(beside: Beside, condition: Callable[[], object]) -> None:
    """Keep it until the condition holds."""

    def look() -> bool:
        beside.keep()
        return bool(condition())

    wait_for(look, 20, "what is kept beside")


def test_one_that_is_killed_is_started_again(make: Make, log: Path) -> None:
    beside = make()
    kept(beside, lambda: len(started(log)) == 1)
    os.kill(started(log)[0], signal.SIGKILL)
    kept(beside, lambda: len(started(log)) == 2)


def test_one_that_lives_is_not_started_twice(make: Make, log: Path) -> None:
    beside = make()
    kept(beside, lambda: started(log))
    for _ in range(100):
        beside.keep()
    assert len(started(log)) == 1


def test_one_that_hangs_is_killed_and_started_again(make: Make, log: Path) -> None:
    hanging: set[int] = set()
    beside = make(hangs=lambda pid, seconds: pid in hanging)
    kept(beside, lambda: started(log))
    hanging.add(started(log)[0])
    kept(beside, lambda: len(started(log)) == 2)


def test_one_is_there_only_while_it_is_wanted(make: Make, log: Path) -> None:
    wanted: list[bool] = []
    beside = make(wanted=lambda: bool(wanted))
    beside.keep()
    wanted.append(True)
    kept(beside, lambda: started(log))
    (pid,) = started(log)
    wanted.clear()
    kept(beside, lambda: not Path(f"/proc/{pid}").exists())
    wanted.append(True)
    kept(beside, lambda: len(started(log)) == 2)


def test_one_that_ends_at_once_is_started_less_and_less_often(make: Make, log: Path) -> None:
    hurried, patient = make(NOTES, again=0.01), make(NOTES, again=0.01, patient=True)
    kept(hurried, lambda: len(started(log)) >= 4)
    log.unlink()
    kept(patient, lambda: len(started(log)) >= 4)
    assert hurried._pause == 0.01
    assert patient._pause >= 0.08
