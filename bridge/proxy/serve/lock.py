"""One `bridgectl serve` in a state directory: a lock that the parent holds while it lives.

After SIGUSR2 there are two parents. The old one hands the lock on, and it is free when both are
gone. Workers let go of it, so that those of a parent that was killed keep no other from starting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import MutableMapping
from pathlib import Path

from bridge.errors import BridgeError
from bridge.files import is_alive, started_at

__all__ = ["AFTER_A_KILL", "PID_FILE", "Lock", "hands_over", "killed"]

PID_FILE = "serve.pid"
AFTER_A_KILL = "start it again; its log, and the kernel's (out of memory?), say why"
_FILE = "serve.lock"
_CLOCK = 60.0  # seconds that the clock may have been set by since
_HANDED = "BRIDGE_SERVE_LOCK"  # the descriptor that an old parent hands to the new one


class Lock:
    """The lock of `state_dir`, taken when it is made. Raises BridgeError when another
    `bridgectl serve` has it, OSError when there can be none."""

    def __init__(self, state_dir: Path) -> None:
        path = state_dir / _FILE
        handed = _handed(path)
        if handed is None:
            handed = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        self._file = handed
        os.set_inheritable(self._file, False)
        try:
            # What was handed on is locked already, for all who have it.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise BridgeError(
                f"bridgectl serve already runs here ({_process(state_dir)}state directory "
                f"{state_dir}); stop it, or set BRIDGE_STATE_DIR"
            ) from None

    def hand_on(self, environ: MutableMapping[str, str]) -> None:
        """In the process that becomes the next parent, with the environment it will have."""
        os.set_inheritable(self._file, True)
        environ[_HANDED] = str(self._file)

    def close(self) -> None:
        """This process does not hold it any more; others who have it still do."""
        os.close(self._file)


def _handed(path: Path) -> int | None:
    """The descriptor that was handed to this process, when it is one of `path`."""
    text = os.environ.pop(_HANDED, "")
    with contextlib.suppress(OSError, ValueError):
        if os.path.samestat(os.fstat(file := int(text)), os.stat(path)):
            return file
    return None


def killed(state_dir: Path) -> int | None:
    """The process id of a parent that did not end in peace: then it would have removed its file.
    None where one runs, or none should."""
    pid = _left(state_dir / PID_FILE)
    return None if hands_over(state_dir) else pid


def hands_over(state_dir: Path) -> bool:
    """Whether there is a new parent after SIGUSR2, that has not yet taken the place of the old."""
    path = state_dir / f"{PID_FILE}.2"
    return path.exists() and _left(path) is None


def _left(path: Path) -> int | None:
    """The process id in this file, when that process is none, or one that began later."""
    try:
        pid, written = int(path.read_text(encoding="ascii")), path.stat().st_mtime
    except (OSError, ValueError):
        return None
    began = started_at(pid)
    later = began is not None and began > written + _CLOCK
    return pid if later or not is_alive(pid) else None


def _process(state_dir: Path) -> str:
    """The one that runs, for a message; it may be too early to know."""
    with contextlib.suppress(OSError, ValueError):
        return f"process {int((state_dir / PID_FILE).read_text(encoding='ascii'))}, "
    return ""
