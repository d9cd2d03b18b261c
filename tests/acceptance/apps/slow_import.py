"""A module that takes as long to import as the test likes: until the file TEST_GATE exists."""

from __future__ import annotations

import os
from pathlib import Path

from stack.waiting import wait_for
from tests.acceptance.apps.handlers import hello

__all__ = ["hello"]

_gate = Path(os.environ["TEST_GATE"])
if not _gate.exists():
    _gate.with_name("waiting").touch()
    wait_for(_gate.exists, 60, "the test lets the import go on")
