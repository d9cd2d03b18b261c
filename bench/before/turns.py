"""Two checkouts run one benchmark in turns: before, now, now, before, and so on, part by part."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from bench.before.checkout import Tree
from bench.before.ratios import Found
from bench.report import BenchmarkFailed

__all__ = ["Side", "in_turns"]

PROGRAM = Path(__file__).with_name("side.py")
BOUND = 900.0
"""Seconds that one part may take."""
PATIENCE = 60.0
"""Seconds that a program has to stop its servers."""


class Side:
    """The benchmark in one checkout, see `bench.before.side`. `found`: the result, at its end.

    As a context manager it ends the program, with its servers.
    """

    def __init__(self, tree: Tree, name: str, folder: Path, rounds: int, seconds: int) -> None:
        self.tree = tree
        self.found: Found | None = None
        self._log = folder / f"{tree.name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / tree.name
        place.mkdir()
        words = [name, str(place), str(rounds), str(seconds)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                # Without -P its own directory would be searched for modules first.
                [sys.executable, "-P", str(PROGRAM), *words],
                cwd=tree.path,
                env=tree.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,  # a line in a buffer would be one that select does not see
                # Ctrl-C is for us alone; we end both in order.
                start_new_session=True,
            )
        self._waits = False
        """Whether it has said what comes next, and waits for its turn."""

    def step(self) -> str:
        """Let it do one part; what it will do in its next turn, or "" at the end.

        Raises BenchmarkFailed with what the benchmark said.
        """
        if self._waits:
            self._waits = False
            with contextlib.suppress(OSError):  # where it has ended, the next line says so
                self._pipe(self._process.stdin).write(b"go\n")
        while True:
            said = self._line()
            if "runs" in said:
                for file in said["runs"].values():
                    self.tree.owns(file)
            elif "failed" in said:
                raise BenchmarkFailed(f"{self.tree.name}: {said['failed']}")
            elif "next" in said:
                self._waits = True
                return str(said["next"])
            else:
                self.found = Found(said["figures"], said["ratios"])
                return ""

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()  # who waits for a turn ends by this
        if self.found is None and not self._waits:
            self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the reaper of its servers sees to them
            self._process.wait()
        self._pipe(self._process.stdout).close()

    def _line(self) -> dict[str, Any]:
        pipe = self._pipe(self._process.stdout)
        if not select.select([pipe], [], [], BOUND)[0]:
            raise BenchmarkFailed(f"{self.tree.name}: nothing has happened for {BOUND:g} s")
        if not (line := pipe.readline()):
            end = self._log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
            raise BenchmarkFailed(f"{self.tree.name}: the benchmark ended without a word: {end}")
        said: dict[str, Any] = json.loads(line)
        return said

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


def in_turns(sides: Sequence[Side], tell: Callable[[str], None]) -> None:
    """Run both to their ends; who goes first changes with every part.

    tell: is called with what comes next. Raises BenchmarkFailed.
    """
    order, coming = list(sides), {id(side): "start" for side in sides}
    while order:
        for side in list(order):
            tell(f"{side.tree.name}: {coming[id(side)]}")
            coming[id(side)] = side.step()
            if side.found is not None:
                order.remove(side)
        order.reverse()
