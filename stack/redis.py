"""A Redis that keeps what it acknowledged: append-only file, no eviction, private directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stack.process import Server, find_program

__all__ = ["Redis"]


class Redis(Server):
    """`redis-server` on a private port; `url` is its database 0.

    fsync: `everysec` as in production, `always` to lose nothing on SIGKILL, `no` for none.
    options: further settings as pairs of words, for example ["maxmemory", "64mb"].
    """

    name: ClassVar[str] = "redis"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        fsync: str = "everysec",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, port=port)
        self.fsync, self.options = fsync, list(options)

    @property
    def url(self) -> str:
        """redis://127.0.0.1:PORT/0"""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The URL of another numbered database, 0 to 15."""
        return f"redis://{self.address}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A new client; the caller closes it."""
        return redis.Redis.from_url(self.url_of(database))

    def command(self) -> Sequence[str]:
        program = find_program("redis-server", "apt-get install redis-server")
        settings = {
            "port": str(self.port),
            "bind": self.host,
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "maxmemory-policy": "noeviction",
            "save": "",
            "daemonize": "no",
            "logfile": "",
        }
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        extra = [f"--{word}" if index % 2 == 0 else word for index, word in enumerate(self.options)]
        return [program, *words, *extra]

    def ready(self) -> bool:
        # Without redis-py's own retries, which would wait seconds for a refused connection.
        with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            try:
                # A server that is still loading its file answers PING with an error.
                return bool(client.ping()) and self._is_ours(client)
            except redis.RedisError:
                return False

    def _is_ours(self, client: redis.Redis) -> bool:
        return int(client.info("server")["process_id"]) == self.pid
