"""A network link that fails on demand: a TCP forwarder between a client and one server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self

__all__ = ["Link"]


class Link:
    """Forwards connections on `port` to `target`, a port of this machine.

    freeze: nothing passes any more, and nobody is told. thaw: what waited passes. cut: every
    connection ends at once; new ones are taken.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._open = threading.Event()
        self._open.set()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self.thaw()
        self._thread.join(5)
        self.cut()
        self._listener.close()
        self._selector.close()

    def url(self, database: str) -> str:
        """A MongoDB URL through this link."""
        return f"mongodb://127.0.0.1:{self.port}/{database}?replicaSet=rs0&directConnection=true"

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    def cut(self) -> None:
        with self._lock:
            for one in list(self._pairs):
                self._end(one)

    def _run(self) -> None:
        while not self._stopped:
            self._open.wait()
            for key, _ in self._selector.select(0.02):
                if not self._open.is_set():
                    break
                with self._lock, contextlib.suppress(OSError):
                    self._pass(key.fileobj)

    def _pass(self, one: object) -> None:
        assert isinstance(one, socket.socket)
        if one is self._listener:
            client, _ = one.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                return
            self._pairs |= {client: server, server: client}
            self._selector.register(client, selectors.EVENT_READ)
            self._selector.register(server, selectors.EVENT_READ)
        elif one in self._pairs:
            try:
                data = one.recv(65536)
                if data:
                    self._pairs[one].sendall(data)
            except OSError:
                data = b""
            if not data:
                self._end(one)

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        del self._pairs[other]
        for end in (one, other):
            self._selector.unregister(end)
            end.close()
