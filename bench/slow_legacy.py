"""A legacy site for `bench.slow`: `python -m bench.slow_legacy PORT`.

`/quick` is a small page, `/page?N` one of N bytes, and `/slow` is answered when somebody asks for
`/release`; `/held` says how many wait for that. It stands in for thousands of PHP processes.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import cast

import uvloop

QUICK = b"x" * 1024


class Site:
    """Who waits for `/slow`."""

    def __init__(self) -> None:
        self.held: set[Connection] = set()

    def release(self) -> None:
        held, self.held = self.held, set()
        for connection in held:
            connection.answer(QUICK)


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.site.held.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\r\n\r\n" not in self._buffer:
            return
        target, self._buffer = self._buffer.split(b" ", 2)[1], b""
        path, _, query = target.partition(b"?")
        if path == b"/slow":
            self.site.held.add(self)
        elif path == b"/page":
            self.answer(b"x" * int(query))
        elif path == b"/held":
            self.answer(b"%d" % len(self.site.held))
        else:
            if path == b"/release":
                self.site.release()
            self.answer(QUICK)

    def answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


async def main(port: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    site = Site()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(site), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
