"""The broker that is a Redis, through `bridge.queue.streams`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any
from urllib.parse import parse_qsl, urlencode

from kombu.connection import Connection

from bridge.queue import streams
from bridge.queue.broker import broker as base
from bridge.queue.streams import url as redisurl
from bridge.queue.streams.entry import to_message

__all__ = ["Streams"]

URL_OPTIONS: dict[str, Callable[[str], Any]] = {
    "heartbeat": float,
    "reclaim_idle": float,
    "reclaim_every": float,
    "global_keyprefix": str,
}
"""What `bridge.queue.streams` takes from a URL too; seconds, see
`bridge.queue.streams.group.Limits`."""
LETTERS_PER_LOOK = 10
"""Entries of one answer to `after`, each of which may be large."""


class Streams(base.Broker):
    """See `Broker`. options: for `bridge.queue.streams`; those of
    URL_OPTIONS may also stand in the URL, as in redis://127.0.0.1/0?reclaim_idle=60."""

    has_lists = True

    @classmethod
    def server(cls, url: str) -> tuple[str, str]:
        several = "sentinel" in url.partition("://")[0]
        name = "Redis, or its Sentinels," if several else "Redis"
        return name, redisurl.start_command(url)

    def _connection(self, url: str, options: dict[str, Any]) -> Connection:
        streams.register()
        url, from_url = _split_options(url)
        # Raises ValueError for what redis-py cannot use; Kombu would find out much later.
        redisurl.client(url).close()
        return Connection(
            redisurl.kombu_url(url),
            connect_timeout=base.CONNECT_SECONDS,
            transport_options=from_url | options,
        )

    def open(self, tries: int) -> None:
        super().open(tries)
        self.redis_client = self.channel.client

    def _publish(self, queue: str, texts: Sequence[bytes], headers: Mapping[str, str]) -> None:
        with self.channel.publishing():
            super()._publish(queue, texts, headers)

    def counts(self) -> base.Counts:
        ready, length = self.channel.group.ready(base.EVENTS_QUEUE), self.length(base.EVENTS_QUEUE)
        return base.Counts(ready, max(0, length - ready), self.length(base.DEAD_QUEUE))

    def length(self, queue: str) -> int:
        return int(self.channel.contents.length(queue))

    def oldest(self, queue: str) -> float | None:
        age = self.channel.contents.age(queue)
        return float("inf") if age is None else time.time() - float(age)

    def browse(self, queue: str) -> base.Shelf:
        return _StreamShelf(self.connection.channel(), queue)

    def after(self, queue: str, place: bytes) -> Iterator[tuple[bytes, Any]]:
        for entry in self.channel.contents.browse(queue, place, LETTERS_PER_LOOK):
            yield entry.id, to_message(queue, "", entry.fields)["body"]

    def is_there(self, queue: str, place: bytes) -> bool:
        return bool(self.channel.contents.has(queue, place))

    def trim(self, queue: str, seconds: float) -> None:
        self.channel.contents.trim(queue, seconds)

    def take_list(self, name: str, queue: str, limit: int) -> int:
        return int(self.channel.contents.take_list(name, queue, limit))

    def consume(self, queue: str, receive: Callable[[Any], None], ahead: int) -> None:
        super().consume(queue, receive, 0)  # nothing comes that was not fetched

    def fill(self, inbox: Sized, most: int, wait: float, more: float) -> None:
        if len(inbox) < most:
            self._drain(wait)  # one fetch brings all there is


class _StreamShelf(base.Shelf):
    """A stream can be read without taking."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(self._channel.browse(self._queue))

    def remove(self, places: Sequence[Any]) -> None:
        self._channel.group.ack({self._queue: places})  # whoever holds them


def _split_options(url: str) -> tuple[str, dict[str, Any]]:
    """The URL without our options, and the options. Raises ValueError."""
    base, mark, query = url.partition("?")
    if not mark:
        return url, {}
    ours, rest = {}, []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in URL_OPTIONS:
            ours[name] = URL_OPTIONS[name](value)
        else:
            rest.append((name, value))
    return f"{base}?{urlencode(rest)}" if rest else base, ours
