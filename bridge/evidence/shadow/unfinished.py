"""What is being compared now, on disk: the next process knows of which requests this one has died.

A request that was left is asked again, alone, before anything else. One of which two processes have
died when it was alone is what kills Python, and is no accident of others, or of somebody's `kill`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.proxy.shadow.copies import Copied

__all__ = ["Left", "Unfinished"]

_FOLDER = "shadow-unfinished"
_SECRET = frozenset(("cookie", "authorization", "proxy-authorization"))
_AGAIN = "again"
_SURE = 2


@dataclass(frozen=True, slots=True)
class Left:
    """A request that a process did not finish; `alone`: the last one of so many that were asked
    for it alone."""

    copied: Copied
    alone: int

    @property
    def kills(self) -> bool:
        """Whether it is what they died of."""
        return self.alone >= _SURE


class Unfinished:
    """The requests of one state directory that are being compared, by who is at work on each. What
    cannot be written is not known to the next process."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / _FOLDER

    def begin(self, who: str, copied: Copied, *, alone: int = 0) -> None:
        """Work on it begins. Its cookies are nobody's business.

        who: works on it, and on nothing else meanwhile.
        copied: the request.
        alone: how often it has been asked for by itself, this time included.
        """
        kept = ("route", "digest", "method", "target", "host", "scheme", "peer", "at")
        fields = {name: getattr(copied, name) for name in kept}
        fields["headers"] = [pair for pair in copied.headers if pair[0].lower() not in _SECRET]
        fields["alone"] = alone
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self._folder / who, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(fields, file)
        except OSError:
            return

    def begin_again(self, left: Left) -> None:
        """It is asked once more, by itself."""
        self.begin(_AGAIN, left.copied, alone=left.alone + 1)

    def end(self, who: str = _AGAIN) -> None:
        """It is through."""
        try:
            (self._folder / who).unlink(missing_ok=True)
        except OSError:
            return

    def left(self) -> list[Left]:
        """What the last process did not finish; it is forgotten. Legacy's answer, status 0, has to
        be asked for."""
        found = []
        try:
            paths = sorted(self._folder.iterdir())
        except OSError:
            return []
        for path in paths:
            try:
                fields = json.loads(path.read_bytes())
                alone = int(fields.pop("alone"))
                fields["headers"] = [(str(name), str(value)) for name, value in fields["headers"]]
                blank = Copied("", "", "", "", "", [], "", "", 0, "", [], 0, "", True, 0.0)
                found.append(Left(replace(blank, **fields), alone))
            except (OSError, ValueError, TypeError, KeyError):
                pass  # it was being written
            path.unlink(missing_ok=True)
        return found
