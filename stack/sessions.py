"""The processes of one kernel session, found in /proc.

Every server is started as the leader of its own session, so its session id is its process id
and all that it forks (workers, savers) can be found and ended, even after the leader is gone.
Uses the standard library only: `stack.reaper` runs it without any site-packages.
"""

from __future__ import annotations

import os
import signal
import time

__all__ = ["end_session", "members"]


def members(session: int) -> list[int]:
    """Process ids of the living processes of `session`; zombies do not count."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                # The command, in brackets, may hold blanks and brackets itself.
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        state, its_session = fields[0], int(fields[3])
        if its_session == session and state not in "ZX":
            found.append(int(entry))
    return found


def end_session(session: int, bound: float = 5.0) -> list[int]:
    """SIGKILL every process of `session` and wait until they are gone, at most `bound` seconds.

    Returns the processes that are still there, normally none.
    """
    deadline = time.monotonic() + bound
    while left := members(session):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() >= deadline:
            break
        time.sleep(0.005)
    return left
