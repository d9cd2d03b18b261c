"""A memcached: what sites have between their pages and a database, for side-by-side figures.

The program is Debian's, from the package `memcached`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from stack.process import Server, find_program

__all__ = ["Memcached"]


class Memcached(Server):
    """`memcached` on a private TCP port, without UDP.

    megabytes: memory for items; beyond it the least recently used go.
    """

    name: ClassVar[str] = "memcached"

    def __init__(self, directory: Path, *, port: int | None = None, megabytes: int = 256) -> None:
        super().__init__(directory, port=port)
        self.megabytes = megabytes

    def command(self) -> Sequence[str]:
        program = find_program("memcached", "apt-get install memcached")
        words = [program, "-l", self.host, "-p", str(self.port), "-U", "0"]
        words += ["-m", str(self.megabytes)]
        # It refuses to run as root unless it is told so.
        return [*words, "-u", "root"] if os.geteuid() == 0 else words

    def ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as connection:
                connection.sendall(b"stats\r\n")
                answer = b""
                while not answer.endswith(b"END\r\n"):
                    if not (received := connection.recv(65536)):
                        return False
                    answer += received
        except OSError:
            return False
        return b"STAT pid %d\r\n" % self.pid in answer
