"""Reading chunks of rows ahead of whoever writes them, on a thread of its own."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from bridge.sync.sql.source import Chunk, Position, SqlSource

__all__ = ["Reader"]

AHEAD = 2
"""Chunks that wait to be written."""
FIRST = 100
"""Rows of the first chunk: it shows how large they are."""
CHUNK_BYTES = 16 * 1024 * 1024
"""About so large may a chunk become in memory."""
SAMPLE = 10
QUICK, MOST_TIMES = 0.05, 20.0
"""Seconds for finding out the place of the log at which an entity of it is read. Where it takes
longer chunks become larger, up to so many times."""


class Reader:
    """Iterating gives the chunks after `position`, to the end, and raises what reading them raises.

    chunk: rows at once, fewer where rows are large.
    patiently: calls a function until the database answers.
    """

    def __init__(
        self,
        source: SqlSource,
        position: Position | None,
        chunk: int,
        patiently: Callable[[Callable[[], Chunk]], Chunk],
    ) -> None:
        self._source, self._position, self._chunk = source, position, chunk
        self._patiently = patiently
        self._ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Iterator[Chunk]:
        self._thread.start()
        return self._chunks()

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._ready.get_nowait()  # it may wait for room
            self._thread.join(0.01)

    def _chunks(self) -> Iterator[Chunk]:
        while (found := self._ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def _run(self) -> None:
        position, size = self._position, min(FIRST, self._chunk)
        try:
            while not self._closed.is_set():
                chunk = self._patiently(partial(self._source.chunk, position, size))
                if chunk.rows or chunk.bad:
                    self._ready.put(chunk)
                if chunk.rows < size:
                    break
                position, size = chunk.last, next_size(chunk, self._most())
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _most(self) -> int:
        """More rows at once where it takes long to find out what moment they are of."""
        reading = self._source.reading
        slow = 1.0 if reading is None else reading.seconds / QUICK
        return int(self._chunk * max(1.0, min(MOST_TIMES, slow)))


def next_size(chunk: Chunk, most: int) -> int:
    """How many rows to read next, by the size of these."""
    sample = chunk.events[:: max(1, len(chunk.events) // SAMPLE)]
    if not sample:
        return min(most, FIRST)
    average = sum(len(json.dumps(event.data)) for event in sample) / len(sample)
    return max(1, min(most, int(CHUNK_BYTES / max(average, 1))))
