"""Brings copies to the shadow process over a unix socket in the state directory.

A thread of its own does it, for both shells: whoever answers visitors puts a copy into a queue and
goes on. A shadow that is not there, or takes nothing, costs copies and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from bridge.logs import traceback_text
from bridge.proxy.shadow.copies import Copied, frame

__all__ = ["SOCKET", "Sender", "socket_address"]

log = structlog.get_logger("bridge.shadow")

SOCKET = "shadow.sock"
"""Name of the socket in the state directory."""
_PAUSE = 0.5  # seconds until who was not there is looked for again
_BOUND = 5.0  # seconds in which the shadow must take something


@contextlib.contextmanager
def socket_address(state_dir: Path) -> Iterator[str]:
    """A short name of the socket in `state_dir`: the kernel takes 107 bytes at most. Raises
    OSError where there is no such folder."""
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)


class Sender:
    """Sends what `put` is given, in its order.

    on_sent: called in the thread with the copy, its size as `put` was told, and whether it was
        sent.
    bound: seconds in which the shadow must take something of what is sent.
    """

    def __init__(
        self,
        state_dir: Path,
        on_sent: Callable[[Copied, int, bool], None],
        *,
        bound: float = _BOUND,
    ) -> None:
        self._state_dir, self._on_sent, self._bound = state_dir, on_sent, bound
        self._queue: deque[tuple[Copied, int]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._not_before = 0.0

    def put(self, copied: Copied, size: int) -> None:
        """Send this soon. The caller bounds how much waits here."""
        with self._changed:
            self._queue.append((copied, size))
            if self._thread is None:  # never before a fork
                self._thread = threading.Thread(target=self._run, name="bridge-shadow", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                copied, size = self._queue.popleft()
            sent = False
            try:
                sent = self._send(copied)
            except Exception as error:  # a copy is not worth the end of this thread
                log.error("cannot send a copy", traceback=traceback_text(error))
            self._on_sent(copied, size, sent)

    def _send(self, copied: Copied) -> bool:
        """Whether it went out; on a new connection where the shadow is another one by now."""
        for _ in range(2):
            if not self._connect():
                return False
            assert self._socket is not None
            try:
                self._socket.sendall(frame(copied))
                return True
            except TimeoutError:
                self._leave()
                return False
            except OSError:
                self._socket.close()
                self._socket = None
        self._leave()
        return False

    def _connect(self) -> bool:
        if self._socket is not None:
            return True
        if time.monotonic() < self._not_before:
            return False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._bound)
        try:
            with socket_address(self._state_dir) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            self._leave()
            return False
        self._socket = connection
        return True

    def _leave(self) -> None:
        """Try again in a while."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._not_before = time.monotonic() + _PAUSE
