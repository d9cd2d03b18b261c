"""Instructions that a process executes, counted by valgrind's callgrind.

Hardware counters are seldom there in a container or a virtual machine; callgrind needs nothing
of the machine, and a busy neighbour changes nothing of what it counts. It counts the one process
and its threads, not the servers that it talks to and not the kernel. A program starts without
being counted, some five times slower than usual; counting begins when it is told to, and then
everything takes some fifty times as long.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.report import BenchmarkFailed
from stack.process import find_program

__all__ = ["INSTALL", "Counter", "under_callgrind"]

INSTALL = "apt-get install valgrind"
BOUND = 120.0
"""Seconds that a process may take to do what callgrind_control asks for."""
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)
_COUNTS = "counts"


def under_callgrind(words: Sequence[str], folder: Path) -> list[str]:
    """The command that runs another one, to be counted by a Counter with the same folder.

    Raises BinaryMissing when valgrind is not installed.
    """
    valgrind = find_program("valgrind", INSTALL)
    out = f"--callgrind-out-file={folder / _COUNTS}.%p"
    # With its children: only then a process that was forked hears callgrind_control.
    options = ["--quiet", "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes"]
    return [valgrind, *options, out, *words]


class Counter:
    """Counts the process `pid` from now on; `folder` as in `under_callgrind`."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid, self._folder = pid, folder
        self._control("-i", "on")
        self.take()

    def take(self) -> int:
        """The instructions since it was last asked. Raises BenchmarkFailed."""
        known = set(self._dumps())
        self._control("--dump")
        new = [dump for dump in self._dumps() if dump not in known]
        found = [_TOTALS.search(dump.read_text(encoding="utf-8")) for dump in new]
        if len(found) != 1 or found[0] is None:
            raise BenchmarkFailed(
                f"callgrind has written {len(found)} counts of process {self._pid}, not one, "
                f"in {self._folder}"
            )
        return int(found[0].group(1))

    def _dumps(self) -> list[Path]:
        return list(self._folder.glob(f"{_COUNTS}.{self._pid}.*"))

    def _control(self, *words: str) -> None:
        program = find_program("callgrind_control", INSTALL)
        done = subprocess.run(
            [program, *words, str(self._pid)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        # It ends with 0 even where there is no such process.
        if done.returncode or "OK." not in done.stdout:
            said = (done.stdout + done.stderr).strip()[-300:]
            raise BenchmarkFailed(f"callgrind_control {' '.join(words)}: {said}")
