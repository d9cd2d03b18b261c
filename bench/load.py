"""Load from this machine to this machine: wrk for throughput, one socket for latency.

wrk's own latencies at one connection include its event loop; a blocking socket that sends a
request and reads the whole answer measures what a visitor waits for, and nothing else.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from urllib.parse import urlsplit

__all__ = ["BenchmarkFailed", "latencies", "throughput"]


class BenchmarkFailed(Exception):
    """An answer was wrong: a fast wrong answer is no result."""


def throughput(url: str, *, connections: int, seconds: int) -> float:
    """Requests per second of wrk with one thread. Raises BenchmarkFailed on a bad answer."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    errors = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
    if done.returncode or found is None or errors:
        raise BenchmarkFailed(f"{url}: {errors[0] if errors else done.stdout + done.stderr}")
    return float(found[1])


def latencies(url: str, *, requests: int, length: int) -> list[float]:
    """Microseconds of each of `requests` requests, one after the other on one connection.

    Every answer must be a 200 with a body of `length` bytes, else BenchmarkFailed is raised.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    times = []
    with socket.create_connection(address, timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            begin = time.perf_counter_ns()
            sock.sendall(request)
            data = b""
            while True:
                received = sock.recv(65536)
                if not received:
                    raise BenchmarkFailed(f"{url}: the connection was closed")
                data += received
                head, found, body = data.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise BenchmarkFailed(f"{url}: {head[:80]!r}")
                if found and (
                    len(body) >= length if b"chunked" not in head else body.endswith(b"0\r\n\r\n")
                ):
                    break
            times.append((time.perf_counter_ns() - begin) / 1000)
            if len(body) < length:
                raise BenchmarkFailed(f"{url}: {len(body)} bytes instead of {length}")
    return times
