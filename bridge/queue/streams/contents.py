"""What is in Redis streams, whoever holds it: add to it, look at it, make it shorter.

As in `bridge.queue.streams.group`, what Redis must do as one step is one here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import redis

from bridge.queue.streams import scripts as lua
from bridge.queue.streams.group import StreamEntry

__all__ = ["Contents"]

BYTES_PER_MOVE = 8 * 1024 * 1024
"""One script keeps everybody else waiting, and must not fill a Redis that was nearly full."""


class Contents:
    """The entries of any number of streams. Every method raises redis.RedisError.

    client: as for `bridge.queue.streams.group.Group`. prefix: of every key.
    """

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self._client, self._prefix = client, prefix
        # As Redis sends it: a dictionary would hide a name given twice.
        client.set_response_callback("XRANGE", lambda reply, **_: reply)

    def add(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Put fields at the ends of streams, in one transaction; after an error all of them may
        be there nevertheless."""
        puts: list[tuple[Any, ...]] = [
            ("XADD", self._prefix + stream, "*", *chain.from_iterable(fields.items()))
            for stream, fields in entries
        ]
        if len(puts) == 1:
            self._client.execute_command(*puts[0])
        elif puts:
            with self._client.pipeline(transaction=True) as pipe:
                for words in puts:
                    pipe.execute_command(*words)
                pipe.execute()

    def take_list(self, name: str, stream: str, limit: int) -> int:
        """Move up to `limit` elements of the list `name` to the end of the stream, as envelopes,
        the oldest first; how many. An element is on the list or in the stream, at every moment."""
        keys, args = [name, self._prefix + stream], [limit, BYTES_PER_MOVE]
        return int(self._client.register_script(lua.MOVE)(keys=keys, args=args))

    def browse(self, stream: str, after: bytes = b"", count: int = 100) -> Iterator[StreamEntry]:
        """Every entry behind the id `after`, oldest first, held or not; nothing is taken. count:
        of one answer of Redis."""
        while reply := self._range(stream, b"(" + after if after else b"-", b"+", count):
            for after, fields in reply:
                yield StreamEntry(stream, after, fields)
            if len(reply) < count:
                return

    def has(self, stream: str, id: bytes) -> bool:
        """Whether this entry is there."""
        return bool(self._range(stream, id, id, 1))

    def age(self, stream: str) -> float | None:
        """Seconds since the oldest entry was added, by the clock of Redis; None without one."""
        if not (first := self._range(stream, b"-", b"+", 1)):
            return None
        seconds, micro = self._client.time()
        return float(seconds + micro / 1e6 - int(first[0][0].split(b"-")[0]) / 1000)

    def length(self, stream: str) -> int:
        """Entries."""
        return int(self._client.xlen(self._prefix + stream))

    def trim(self, stream: str, seconds: float) -> None:
        """Delete entries that are older than so many seconds, by the clock of Redis."""
        oldest = int((self._client.time()[0] - seconds) * 1000)
        self._client.xtrim(self._prefix + stream, minid=str(max(oldest, 0)), approximate=True)

    def _range(self, stream: str, start: bytes, end: bytes, count: int) -> list[Any]:
        words = "XRANGE", self._prefix + stream, start, end, "COUNT", count
        return list(self._client.execute_command(*words))
