"""Ends the servers of a process that died without ending them.

One small process per process that starts servers. It holds the reading end of a pipe; the
writing end is held by the owner alone, so end of file means that the owner is gone, however it
died. PR_SET_PDEATHSIG would not do: it is not inherited by what a server forks, and it fires
when the thread that started the server ends.

Lines on the pipe: `+PID` a server that leads session PID has started, `-PID` it has ended.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    # Run by path and isolated (-I): make the sibling modules importable.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stack.sessions import end_session

__all__ = ["forget", "pipe"]

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None
_owner = 0


def pipe() -> int:
    """The file descriptor of the writing end; starts the reaper at the first call."""
    global _process, _owner
    with _lock:
        if _process is None or _owner != os.getpid() or _process.poll() is not None:
            _process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                # Its own session: a Ctrl-C, or a kill of the owner's group, must not end it.
                start_new_session=True,
            )
            _owner = os.getpid()
            atexit.register(_dismiss, _process, _owner)
        assert _process.stdin is not None
        return _process.stdin.fileno()


def forget(pid: int) -> None:
    """Tell the reaper that the session of `pid` has ended and its number may be used again."""
    os.write(pipe(), b"-%d\n" % pid)


def _dismiss(process: subprocess.Popen[bytes], owner: int) -> None:
    """At a regular exit: what was forgotten is ended now, and the reaper with it."""
    if owner == os.getpid() and process.stdin is not None:
        process.stdin.close()
        process.wait()


def main() -> None:
    """Read registrations until end of file, then SIGKILL every session that is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: dict[int, None] = {}
    for line in sys.stdin.buffer:
        pid = int(line[1:])
        if line.startswith(b"+"):
            sessions[pid] = None
        else:
            sessions.pop(pid, None)
    # The last one started is the first one ended, as in an orderly stop.
    for pid in reversed(sessions):
        end_session(pid)


if __name__ == "__main__":
    main()
