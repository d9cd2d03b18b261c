"""The record of flips: who, when, from, to and why, one JSON object a line beside routes.yaml."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError
from bridge.files import take_over

__all__ = ["Flip", "History", "history_file", "read_history"]


@dataclass(frozen=True, slots=True)
class Flip:
    """One flip, as the history keeps it. `digest` names the table it made; `line` is the
    changed line, from 1; `changed` is False when the number already stood there; `evidence` is what
    spoke for raising a share where that was asked for, or that it was done without."""

    at: str
    who: str
    name: str
    old: str
    new: str
    why: str
    line: int
    digest: str
    changed: bool = True
    evidence: str = ""


def history_file(routes: Path) -> Path:
    """Where the flips of this routes.yaml are kept: one JSON object a line."""
    return routes.with_name(f"{routes.stem}.history.jsonl")


class History:
    """The file of flips of `routes`, which can be put back to what it was.

    A new one has the mode and the group of `routes`: who may change that may be on record.
    """

    def __init__(self, routes: Path) -> None:
        self.path = history_file(routes)
        self._routes = routes
        self._size: int | None = None

    def add(self, lines: str) -> None:
        """Append, and have it on the disk. Raises OSError; then nothing was added."""
        self._size = self.path.stat().st_size if self.path.exists() else -1
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                if self._size < 0:
                    like = os.stat(self._routes)
                    take_over(file.fileno(), like, like.st_mode & 0o666 | 0o600)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.take_back()
            raise

    def take_back(self) -> None:
        """Be as before `add`."""
        size, self._size = self._size, None
        with contextlib.suppress(OSError):
            if size is not None and size < 0:
                self.path.unlink(missing_ok=True)
            elif size is not None:
                os.truncate(self.path, size)


def read_history(routes: Path) -> list[Flip]:
    """Every flip so far, oldest first. Lines that cannot be read are passed over. Raises
    BridgeError when the file cannot be read."""
    path = history_file(routes.resolve())
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BridgeError(f"{path} cannot be read: {error.strerror}") from None
    flips = []
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, TypeError):
            flips.append(Flip(**json.loads(line)))
    return flips
