"""Blacks out what the patterns of `compare: {hide: […]}` match, in bounded time and memory.

The patterns are run by a child process (`masking`), which is killed when it takes too long. What
could not be hidden is not kept: then nobody gets the texts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.evidence.differences.secrets import MASK

__all__ = ["CannotHide", "Hider"]

_PROGRAM = Path(__file__).with_name("masking.py")
_SECONDS = 2.0  # for the texts of one request
_PAUSE = 60.0  # seconds without a try, after patterns have taken too long
_REMEMBERED = 2000


class CannotHide(Exception):
    """Why the texts may not be kept."""


class Hider:
    """What the patterns match is hidden. Not for several threads at a time.

    seconds: for one call.
    clock: seconds, monotonic.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        *,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patterns, self._seconds, self._clock = tuple(patterns), seconds, clock
        self._short: OrderedDict[str, str] = OrderedDict()
        self._not_before = float("-inf")

    def hide(self, texts: Sequence[str]) -> list[str]:
        """The texts, masked. Raises CannotHide."""
        if not self._patterns or not any(texts):
            return list(texts)
        if self._clock() < self._not_before:
            raise CannotHide(self._says)
        asked = {"patterns": self._patterns, "texts": texts, "mask": MASK, "seconds": self._seconds}
        command = [sys.executable, "-I", "-S", str(_PROGRAM)]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(asked).encode(),
                capture_output=True,
                timeout=self._seconds,
            )
            hidden: list[str] = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            self._not_before = self._clock() + _PAUSE
            raise CannotHide(self._says) from None
        return hidden

    def hide_short(self, texts: Sequence[str]) -> list[str]:
        """The same for short texts that come again and again."""
        if unknown := [text for text in dict.fromkeys(texts) if text not in self._short]:
            self._short.update(zip(unknown, self.hide(unknown), strict=True))
        found = [self._short[text] for text in texts]
        while len(self._short) > _REMEMBERED:
            self._short.popitem(last=False)
        return found

    @property
    def _says(self) -> str:
        return (
            "the patterns of `hide` in routes.yaml did not end in time here: write them so that "
            "they cannot match one text in many ways"
        )
