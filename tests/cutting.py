"""A way to a server that is cut after so many bytes: in the middle of greetings, headers, rows."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

__all__ = ["Cutting"]


class Cutting:
    """Carries connections to `port` of this machine, and ends each after so many bytes from there.
    after: how many, for one connection after the other; then it ends none."""

    def __init__(self, port: int, after: list[int]) -> None:
        self._target, self._after = port, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            most = self._after.pop(0) if self._after else 1 << 40
            threading.Thread(target=self._carry, args=(client, most), daemon=True).start()

    def _carry(self, client: socket.socket, most: int) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            up = threading.Thread(target=_pass, args=(client, server, 1 << 40), daemon=True)
            up.start()
            _pass(server, client, most)
            up.join()


def _pass(one: socket.socket, other: socket.socket, most: int) -> None:
    """Carry up to so many bytes, then end both."""
    try:
        while most > 0 and (data := one.recv(min(most, 65536))):
            other.sendall(data)
            most -= len(data)
    except OSError:
        pass
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)  # wakes who waits for it, which closing does not
