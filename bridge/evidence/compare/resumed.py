"""How far a comparison has come, so that one that was stopped can go on.

A file in the state directory has one line for each request that is through. Its name is a digest
of what is compared: another sample, other rules or another release begin anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bridge.evidence.answers import Kind

__all__ = ["Resumed"]

_FOLDER = "compare"


@dataclass
class Resumed:
    """The requests that are through: their number to the kind that they were."""

    path: Path
    through: dict[int, Kind] = field(default_factory=dict)
    _file: IO[str] | None = None

    @classmethod
    def of(cls, state_dir: Path, parts: Iterable[str], *, afresh: bool = False) -> Resumed:
        """What is left of an earlier run with the same `parts`; nothing with `afresh`. Raises
        OSError."""
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
        path = state_dir / _FOLDER / f"{digest[:16]}.through"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if afresh:
            path.unlink(missing_ok=True)
        found = cls(path)
        with contextlib.suppress(FileNotFoundError):
            # What follows the last line end was being written when it was killed.
            lines, end, torn = path.read_bytes().rpartition(b"\n")
            if torn:
                os.truncate(path, len(lines + end))
            for line in lines.decode("ascii", "replace").split("\n"):
                number, _, kind = line.partition(" ")
                with contextlib.suppress(ValueError):
                    found.through[int(number)] = Kind(kind)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        found._file = os.fdopen(handle, "w", encoding="ascii", buffering=1)
        return found

    def note(self, number: int, kind: Kind) -> None:
        """This one is through."""
        self.through[number] = kind
        if self._file is not None:
            self._file.write(f"{number} {kind}\n")

    def close(self, *, whole: bool) -> None:
        """End; with `whole` there is nothing to go on with."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if whole:
            self.path.unlink(missing_ok=True)
