"""What `bench.chaos` breaks, when, and how it is mended.

A plan is made of a seed alone, so a run can be repeated. No part is broken twice at the same time.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from bench.chaos_pages import OWN_PAGE
from bench.chaos_site import HANDLER_MODES, LEGACY_MODES

__all__ = [
    "GOOD_CODE", "HARMS", "LogReader", "Step", "harm_code", "harm_page", "harm_routes",
    "harm_state", "mend_page", "mend_state", "plan", "save",
]  # fmt: skip

HARMS: dict[str, tuple[str, ...]] = {
    "workers": ("one", "one", "one", "all"),
    "legacy": ("kill", "stop", *LEGACY_MODES),
    "handlers": HANDLER_MODES,
    "code": ("syntax", "raise", "hang", "exit", "gone"),
    "routes": ("swap", "swap", "swap", "damage", "cut", "empty", "gone", "folder", "noise"),
    "page": ("gone", "spoilt", "folder", "pipe"),
    "state": ("gone", "file", "emptied"),
    "log": ("nobody reads", "closed"),
}
"""What may be broken, and how."""

GOOD_CODE = "from bench.chaos_site import view\n"
_CODE = {
    "syntax": "def view(:\n",
    "raise": "raise RuntimeError('chaos')\n",
    "hang": "import time\ntime.sleep(4)\n" + GOOD_CODE,
    "exit": "import sys\nsys.exit(1)\n",
}
_SPLICES = (b"{", b"\0", b"\xff", b"[" * 900, b"<<: *nobody", b"- - {", b"\n\t")
_APART = {"state": ("routes", "page"), "routes": ("state",), "page": ("state",)}
"""Never at once: when a file is broken, and the copy of the last good one is gone, a new worker
cannot know what there was."""
_FORGOTTEN = 5.0  # seconds until what was in the state directory is there again
_LASTS = (0.2, 4.0)  # seconds of a harm
_BETWEEN = (0.05, 0.7)  # seconds between two of them


@dataclass(frozen=True)
class Step:
    """`at`, in seconds from the begin of a round, `part` is broken in a way for `lasts` seconds.
    `seed` is for what is random in it."""

    at: float
    part: str
    way: str
    lasts: float
    seed: int


def plan(chance: random.Random, seconds: float) -> list[Step]:
    """All that is broken within `seconds`, and mended by then."""
    steps: list[Step] = []
    free = dict.fromkeys(HARMS, 0.0)
    at = 0.0
    while (at := at + chance.uniform(*_BETWEEN)) < seconds:
        part = chance.choice(list(HARMS))
        lasts = min(chance.uniform(*_LASTS), seconds - at)
        seed = chance.randrange(10**6)
        if free[part] <= at:
            free[part] = at + lasts + 0.1
            for other in _APART.get(part, ()):
                free[other] = max(free[other], at + lasts + _FORGOTTEN)
            steps.append(Step(at, part, chance.choice(HARMS[part]), lasts, seed))
    return steps


def harm_routes(file: Path, good: str, step: Step) -> None:
    """routes.yaml, in other ways than by a good one."""
    chance = random.Random(step.seed)
    raw = good.encode()
    begin = raw.index(b"routes:\n") + 8
    if step.way == "damage":
        at = chance.randrange(begin, len(raw))
        save(file, raw[:at] + chance.choice(_SPLICES) + raw[at:], step.seed)
    elif step.way == "cut":
        # Before that are the hosts; without one of them a table is good, and another site's.
        os.truncate(file, chance.randrange(min(begin, file.stat().st_size), len(raw)))
    elif step.way == "empty":
        save(file, b"", step.seed)
    elif step.way == "noise":
        save(file, b"\xff" + chance.randbytes(200), step.seed)
    elif step.way == "gone":
        file.unlink()
    elif step.way == "folder":
        file.unlink()
        file.mkdir()


def save(file: Path, raw: bytes, seed: int = 0) -> None:
    """As one editor or the other does."""
    if file.is_dir():
        file.rmdir()
    if seed % 2:
        new = file.with_suffix(".new")
        new.write_bytes(raw)
        new.replace(file)
    else:
        file.write_bytes(raw)


def harm_page(file: Path, step: Step) -> None:
    """The site's error page."""
    if step.way == "spoilt":
        file.write_bytes(b"caf\xe9")
        return
    file.unlink()
    if step.way == "folder":
        file.mkdir()
    elif step.way == "pipe":
        os.mkfifo(file)


def mend_page(file: Path) -> None:
    """As it was."""
    if file.is_dir():
        file.rmdir()
    elif file.exists() and not file.is_file():
        file.unlink()
    save(file, OWN_PAGE.encode(), 1)


def harm_code(file: Path, step: Step) -> None:
    """The module of the handlers; who has imported it has it."""
    if step.way == "gone":
        file.unlink()
    else:
        save(file, _CODE[step.way].encode(), 1)


def harm_state(folder: Path, step: Step) -> None:
    """The state directory of the bridge."""
    if step.way == "emptied":
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    if step.way == "file" and not folder.exists():
        folder.write_text("")


def mend_state(folder: Path) -> None:
    """A folder again, with nothing in it that the bridge does not put there."""
    if folder.is_file():
        folder.unlink()
    folder.mkdir(exist_ok=True)


class LogReader(threading.Thread):
    """Reads the access log's pipe, unless it is told not to."""

    def __init__(self, fifo: Path) -> None:
        super().__init__(name="log-reader", daemon=True)
        self.fifo = fifo
        self.way = ""
        self.lines = 0
        self._changed = threading.Condition()
        self._ended = False

    def turn(self, way: str) -> None:
        """`""` to read, or a way of `log`."""
        with self._changed:
            self.way = way
            self._changed.notify()

    def end(self) -> None:
        """Within a second."""
        self._ended = True
        self.turn("closed")
        self.join(5)

    def run(self) -> None:
        while not self._ended:
            # Both ends: to open it waits for nobody, and reading never ends by itself.
            end = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
            try:
                while self.way != "closed":
                    self._read(end)
            finally:
                os.close(end)
            with self._changed:
                self._changed.wait_for(lambda: self.way != "closed" or self._ended, 1)

    def _read(self, end: int) -> None:
        with self._changed:
            self._changed.wait(0.02)
            if self.way:
                return
        try:
            while got := os.read(end, 65536):
                self.lines += got.count(b"\n")
        except BlockingIOError:
            return
