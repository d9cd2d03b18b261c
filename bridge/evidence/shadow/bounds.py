"""What the shadow may take of the machine: visitors come first."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

__all__ = ["bound", "memory_used", "yield_to_others"]

_LAST = 19
_PAGE = os.sysconf("SC_PAGE_SIZE")


def yield_to_others() -> None:
    """Run when nobody else wants to, and be the first to go when memory runs out."""
    with contextlib.suppress(OSError):
        os.nice(_LAST - os.nice(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def bound(memory: int) -> None:
    """Let this process have so many bytes of data at most; beyond that it gets MemoryError."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def memory_used() -> int:
    """Bytes of memory that this process has now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * _PAGE
