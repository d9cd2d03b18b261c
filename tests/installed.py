"""Servers that `scripts/test --all` installs: a test without its server is skipped, and says so."""

from __future__ import annotations

from typing import TypeVar

import pytest

from stack.errors import BinaryMissing
from stack.process import Server

S = TypeVar("S", bound=Server)


def skip_if_missing(server: S) -> S:
    """Skip the test, with the reason, when the program of `server` is not installed."""
    try:
        server.command()
    except BinaryMissing as missing:
        pytest.skip(f"{missing}, or: scripts/test --all")
    return server
