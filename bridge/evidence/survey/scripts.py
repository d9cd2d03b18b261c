"""Which PHP scripts were asked for by their own address, and when last. Bounded memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bridge.evidence.logs.entry import time_of

__all__ = ["Scripts"]

_SCRIPT = re.compile(r"(/[^?]*?\.php)(?:/|$)", re.IGNORECASE)
_MOST = 50_000
_INDEX = "index.php"


class Scripts:
    """`full` says that there were too many to remember all: then nobody can say which of them are
    unused."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self.full = False

    def seen(self, path: str, time: str) -> None:
        """A canonical path was asked for, at a time as the log has it."""
        if path.endswith("/"):
            script = path + _INDEX
        elif found := _SCRIPT.match(path):
            script = found[1]
        else:
            return
        if script not in self._last and len(self._last) >= _MOST:
            self.full = True
            return
        self._last[script] = max(self._last.get(script, 0.0), time_of(time))

    def unused(self, root: Path, since: float) -> Iterator[str]:
        """The scripts below a document root, as addresses, that nobody has asked for since then
        (Unix seconds); none where it cannot be told. Links to folders are not followed."""
        if self.full:
            return
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files):
                if name.lower().endswith(".php"):
                    path = "/" + (Path(folder) / name).relative_to(root).as_posix()
                    if self._last.get(path, -1.0) < since:
                        yield path
