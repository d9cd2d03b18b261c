"""How many descriptors a worker may have, and what for: visitors, legacy, and what is left.

The limit is the system's (`ulimit -Hn`, LimitNOFILE= of systemd). Whatever else is configured is
fitted to it.
"""

from __future__ import annotations

import resource

from bridge.errors import BridgeError

__all__ = [
    "check_descriptors",
    "for_legacy",
    "raise_limit",
    "room_for_visitors",
    "spare",
]

LEAST = 128
"""Descriptors without which a worker cannot do its work."""

_SPARE = 64, 256  # at least and at most, for handlers, files and the worker itself


def spare(descriptors: int) -> int:
    """How many of so many are neither for visitors nor for legacy."""
    least, most = _SPARE
    return max(least, min(descriptors // 4, most))


def for_legacy(descriptors: int) -> int:
    """How many of so many may be connections to legacy."""
    return descriptors // 3


def room_for_visitors(wanted: int, descriptors: int, legacy: int) -> int:
    """How many visitors a process with so many descriptors takes of those `wanted`, when it may
    have `legacy` connections: those come out of the same number, up to a third of it."""
    room = descriptors - spare(descriptors) - min(legacy, for_legacy(descriptors))
    return max(1, min(wanted, room))


def raise_limit() -> int:
    """Take as many as this process may have; returns the number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def check_descriptors() -> None:
    """Raises BridgeError where there are too few to serve anybody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < LEAST:
        raise BridgeError(
            f"a process may have {most} descriptors here, and a worker needs {LEAST} at least; "
            "raise `ulimit -Hn`, or LimitNOFILE= of the systemd unit"
        )
