"""Many visitors of one kind for `bench.slow`, in a process of their own.

`python -m bench.slow_visitors '{"count": …, …}'` opens `count` connections from the address
`source` to `host`:`port`, asks each for `path`, and prints a line when all have asked. Then each
takes `piece` bytes every `pause` seconds (0: whatever comes). After a line on standard input
they take the rest as fast as it comes, and a JSON object says what they got.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import resource
import select
import socket
import sys
import time
from typing import Any

__all__ = ["Reader"]

_SEGMENT = 1400  # bytes; as on the Internet, and not as on a loopback device
_WINDOW = 8 * 1024  # bytes that a visitor's kernel takes ahead
_BURST = 50  # connections that are opened at once
_LATE = 60.0  # seconds without anything new until the rest counts as lost


class Reader:
    """One visitor: a socket, and what came of an answer of `size` bytes."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self.sock, self.size = sock, size
        self.head = b""
        self.left: int | None = None
        self.status = ""
        self.over = False

    @property
    def whole(self) -> bool:
        return self.left == 0 and self.status == "200"

    def take(self, most: int) -> int:
        """Read at most `most` bytes; how many came."""
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.over = True
            return 0
        self._look(data)
        return len(data)

    def _look(self, data: bytes) -> None:
        if self.left is None:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            self.status = head[9:12].decode("latin-1")
            self.left = self.size
        if data.strip(b"x"):
            self.status = "wrong"
        self.left -= len(data)
        self.over = self.left <= 0


def connect(spec: dict[str, Any]) -> list[Reader]:
    """All visitors, each of whom has asked."""
    readers = []
    request = f"GET {spec['path']} HTTP/1.1\r\nHost: {spec['host']}:{spec['port']}\r\n"
    request += "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html\r\n"
    for number in range(spec["count"]):
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        sock.bind((spec["source"], 0))
        sock.connect((spec["host"], spec["port"]))
        sock.sendall(f"{request}Cookie: PHPSESSID={spec['source']}-{number}\r\n\r\n".encode())
        sock.setblocking(False)
        readers.append(Reader(sock, spec["size"]))
        if number % _BURST == 0:
            time.sleep(0.005)
    return readers


def read_slowly(readers: list[Reader], piece: int, pause: float, poll: select.epoll) -> None:
    """Until a line comes: each takes a piece in each pause, all at different times."""
    began, done = time.monotonic(), 0
    while not poll.poll(0.005):
        due = int((time.monotonic() - began) / pause * len(readers))
        for number in range(done, due):
            reader = readers[number % len(readers)]
            if not reader.over:
                reader.take(piece)
        done = due


def read_on(readers: list[Reader], poll: select.epoll, until_line: bool) -> None:
    """Take what comes, until all have everything, or a line comes, or nothing does."""
    by_number = {reader.sock.fileno(): reader for reader in readers if not reader.over}
    for number, reader in by_number.items():
        if not until_line:
            reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        poll.register(number, select.EPOLLIN)
    late = time.monotonic() + _LATE
    while by_number and (until_line or time.monotonic() < late):
        for number, _ in poll.poll(1.0):
            if number == 0:
                if until_line:
                    until_line, late = False, time.monotonic() + _LATE
                    poll.unregister(0)
                continue
            if by_number[number].take(65536):
                late = time.monotonic() + _LATE
            if by_number[number].over:
                poll.unregister(number)
                del by_number[number]


def main(spec: dict[str, Any]) -> None:
    os.nice(10)  # they stand for other machines, which take no time of this one
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    readers = connect(spec)
    print("asked", flush=True)
    line = select.epoll()
    line.register(0, select.EPOLLIN)
    if spec["pause"]:
        read_slowly(readers, spec["piece"], spec["pause"], line)
        line.unregister(0)
    early = sum(reader.over for reader in readers)
    read_on(readers, line, until_line=not spec["pause"])
    statuses = collections.Counter(reader.status or "none" for reader in readers)
    whole = sum(reader.whole for reader in readers)
    print(json.dumps({"whole": whole, "early": early, "statuses": statuses}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(json.loads(sys.argv[1]))
