"""`bridge` commands that run while servers die, and may be killed themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stack.process import REPOSITORY

Difference = tuple[str, str, str]
"""Entity, kind and key, as `bridgectl reconcile` names it."""


class Done(NamedTuple):
    """How a command ended. told: the JSON that it printed, None where there is none."""

    code: int
    told: Any
    errors: str

    @property
    def differences(self) -> set[Difference]:
        """All that `bridgectl reconcile` named."""
        return {
            (entity["entity"], one["kind"], one["key"])
            for entity in self.told["entities"]
            for one in entity["differences"]
        }


class Running:
    """A `bridge` command on its way; `end` waits for it."""

    def __init__(self, words: tuple[str, ...], env: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = time.monotonic_ns()
        self._out, self._errors = folder / f"{number}.out", folder / f"{number}.err"
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge", *words],
                env={key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
                | dict(env),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self, bound: float = 60.0) -> Done:
        """Wait for it."""
        try:
            code = self.process.wait(bound)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end after {bound:g} s: {self.said[-2000:]}") from None
        out = self._out.read_text()
        return Done(code, json.loads(out) if out[:1] in ("{", "[") else None, self.said)
