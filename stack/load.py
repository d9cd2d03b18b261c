"""Load from this machine to this machine: wrk for throughput, one socket for latency.

wrk stops its clock when its event loop gets to an answer, and rounds what it prints. For the
latency of one visitor a blocking socket is nearer to the truth: it sends a request, reads the
whole answer, and does nothing else in between. Both check what they get: a fast wrong answer is
no result.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stack.errors import LoadFailed
from stack.process import find_program

__all__ = [
    "UNSEEN",
    "Page",
    "latencies",
    "percentile",
    "read_answer",
    "throughput",
]

WRK_SUMMARY = Path(__file__).with_name("summary.lua")
UNSEEN = "@" * 12
"""In the target or a header of a Page: a number that was in no request before."""

_AT_ONCE = 10**7  # more requests than one measurement makes
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Page:
    """What is asked for, with which headers besides Host, and the body that must come."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def request(self) -> bytes:
        """The request, byte for byte."""
        parts = urlsplit(self.url)
        lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode()

    @property
    def is_unseen(self) -> bool:
        """Whether every request is another one."""
        return UNSEEN.encode() in self.request

    def check(self, head: bytes, body: bytes) -> None:
        """Raises LoadFailed unless it is a 200 with exactly the expected body."""
        if not head.startswith(b"HTTP/1.1 200 "):
            raise LoadFailed(f"{self.url}: {head[:80]!r}")
        if body != self.body:
            raise LoadFailed(
                f"{self.url}: {len(body)} bytes {body[:60]!r} instead of {len(self.body)}"
            )


def throughput(page: Page, *, connections: int, seconds: int, answer: int) -> tuple[float, int]:
    """Requests per second of wrk with one thread, and the number of requests.

    Every answer must be `answer` bytes long with its head: together with the statuses that wrk
    counts this shows a wrong page. Raises LoadFailed.
    """
    command = [find_program("wrk", "apt-get install wrk"), "-t1", f"-c{connections}"]
    command += [f"-d{seconds}s", "-s", str(WRK_SUMMARY)]
    for name, value in page.headers:
        command += ["-H", f"{name}: {value}"]
    command.append(page.url)
    if page.is_unseen:
        command += ["--", str(next(_numbers) * _AT_ONCE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode:
        raise LoadFailed(f"{page.url}: wrk failed: {done.stdout}{done.stderr}")
    counted: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    requests, read = counted["requests"], counted["bytes"]
    if not requests:
        raise LoadFailed(f"{page.url}: no answer within {seconds} s")
    if counted["failed"]:
        raise LoadFailed(f"{page.url}: {counted['failed']} of {requests} requests failed")
    # wrk also counts the bytes of the answers that it did not wait for at the end.
    if not requests * answer <= read <= (requests + connections) * answer:
        raise LoadFailed(f"{page.url}: {requests} answers of {answer} bytes, but {read} bytes came")
    return requests * 1e6 / counted["microseconds"], requests


def latencies(page: Page, *, requests: int) -> tuple[list[float], int]:
    """Microseconds of each of `requests` requests, one after the other on one connection, and
    the size of an answer in bytes.

    Raises LoadFailed for a wrong answer, or one of another size than the first.
    """
    parts = urlsplit(page.url)
    request, times, sizes = page.request, [], set()
    number = next(_numbers) * _AT_ONCE if page.is_unseen else 0
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            if number:
                number += 1
                request = page.request.replace(UNSEEN.encode(), b"%012d" % number)
            begin = time.perf_counter_ns()
            sock.sendall(request)
            head, body = read_answer(sock)
            times.append((time.perf_counter_ns() - begin) / 1000)
            page.check(head, body)
            sizes.add(len(head) + 4 + len(body))
    if len(sizes) != 1:
        raise LoadFailed(f"{page.url}: answers of different sizes: {sorted(sizes)}")
    return times, sizes.pop()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all, 0 to 1, are below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def read_answer(sock: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of an answer, which must have a Content-Length."""
    data, missing = b"", 1
    while missing > 0:
        received = sock.recv(65536)
        if not received:
            raise LoadFailed(f"the connection was closed after {data[:80]!r}")
        data += received
        head, found, body = data.partition(b"\r\n\r\n")
        if found:
            _, named, value = head.lower().partition(b"\r\ncontent-length:")
            if not named:
                raise LoadFailed(f"an answer without Content-Length: {head[:200]!r}")
            missing = int(value.partition(b"\r\n")[0]) - len(body)
    return head, body
