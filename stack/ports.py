"""Free TCP ports of 127.0.0.1, for servers that must be able to come back on the same port.

The ports lie below the range from which the kernel picks the ports of outgoing connections.
A port of that range could be taken by any client while its server is down, and a client that
polls such a port can even connect to itself.
"""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from stack.errors import StackError

__all__ = ["free_port", "is_free", "is_open"]

LOWEST = 12_000
_choose = random.SystemRandom()
_given: set[int] = set()
_lock = threading.Lock()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens; never the same one twice per process.

    Raises StackError when none is found.
    """
    with _lock:
        for _ in range(1000):
            port = _choose.randrange(LOWEST, _first_ephemeral())
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise StackError("found no free TCP port on 127.0.0.1")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` of `host` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on `port` of `host` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def _first_ephemeral() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    except OSError:
        return 32_768
    first = int(text.split()[0])
    return first if first > LOWEST + 2000 else 32_768
