"""Takes the copies of the workers from a unix socket that only this user may connect to."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from bridge.proxy.shadow.copies import Copied, Frames, NoFrame
from bridge.proxy.shadow.sender import socket_address

__all__ = ["Intake"]

log = structlog.get_logger("bridge.shadow")

_PIECE = 256 * 1024  # bytes read at once
_MOST = 256  # connections, one of each worker


class Intake:
    """Listens from when it is made, in place of whoever listened there before. Raises OSError.

    take: gets each copy, in the thread that runs this.
    broken: called for each connection that is ended because of what came on it.
    """

    def __init__(
        self, state_dir: Path, take: Callable[[Copied], None], broken: Callable[[], None]
    ) -> None:
        self._take, self._broken = take, broken
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with socket_address(state_dir) as address:
                # Also the socket of one that was killed; who has connected there stays with it.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)
                self._listener.bind(address)
        finally:
            os.umask(mask)
        self._listener.listen(_MOST)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Take what comes; nothing ends this but an error."""
        while True:
            self.step()

    def step(self, seconds: float | None = None) -> None:
        """Take what is there, after waiting for it at most so long."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._accept()
            else:
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                self._read(connection, key.data)

    def close(self) -> None:
        """End listening, and every connection."""
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone already, or there is no descriptor left: the worker tries again
            return
        connection.setblocking(False)
        if len(self._selector.get_map()) > _MOST:
            connection.close()
            return
        self._selector.register(connection, selectors.EVENT_READ, Frames())

    def _read(self, connection: socket.socket, frames: Frames) -> None:
        try:
            data = connection.recv(_PIECE)
            found = frames.feed(data) if data else None
        except BlockingIOError:
            return
        except OSError:
            found = None
        except NoFrame as error:
            log.warning("a connection to the shadow is ended", error=str(error))
            self._broken()
            found = None
        if found is None:
            self._selector.unregister(connection)
            connection.close()
            return
        for copied in found:
            self._take(copied)
