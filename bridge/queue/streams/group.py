"""One consumer of the consumer group of Redis streams: fetch, acknowledge, put back, reclaim.

Everything that Redis must do as one step is one command, one MULTI or one script here, so that
no kill of anybody at any moment loses an entry. Redis 7.0 is enough. What an entry means is left
to `bridge.queue.streams.entry`, what Kombu wants to `bridge.queue.streams`.

    fetch    XREADGROUP … >            the entry is now pending under this consumer's name
    ack      MULTI XACK XDEL EXEC      gone, a whole batch at once
    put back a script: XADD, XACK, XDEL
    recover  what is pending under this name and not in hand: its reply got lost
    reclaim  what is pending under the name of a consumer whose heartbeat ended

A consumer is alive while its heartbeat key is there. XAUTOCLAIM would go by idle time alone and
take a batch from a worker that is merely slow.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import redis

from bridge.queue.streams import scripts as lua
from bridge.queue.streams.heartbeat import Heartbeat
from bridge.queue.waiting import retry_wait

__all__ = ["Group", "Limits", "StreamEntry"]

logger = logging.getLogger(__name__)

_ENTRIES_PER_STEP = 1000


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry in hand. before: how often it was delivered before."""

    stream: str
    id: bytes
    fields: Sequence[bytes]
    before: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """heartbeat: seconds after which a silent consumer counts as dead. reclaim_idle: seconds
    that an entry must have lain untouched before it is taken from a dead consumer.
    reclaim_every: seconds between two looks for such entries. batch_bytes: of one fetch, which has
    one entry more than fit at most; 0 for no limit. largest: bytes that an entry may have then."""

    heartbeat: float = 30.0
    reclaim_idle: float = 30.0
    reclaim_every: float = 5.0
    batch_bytes: int = 0
    largest: int = 0

    def __post_init__(self) -> None:
        if self.heartbeat <= 0 or self.reclaim_idle < 0 or self.reclaim_every < 0:
            raise ValueError("heartbeat must be more than 0, reclaim_* must not be less")


class Group:
    """The consumer `name` of the group `group`, for any number of streams. For one thread,
    except `ack` and `put_back`.

    client: its commands must not be repeated by the client itself.
    prefix: of every key.
    """

    def __init__(
        self, client: redis.Redis, *, group: str, name: str, prefix: str = "", limits: Limits
    ) -> None:
        self.name = name
        self._client, self._group, self._prefix, self._limits = client, group, prefix, limits
        self._recovered: set[str] = set()
        self._reclaim_at: dict[str, float] = {}
        self._heartbeat = Heartbeat(client, self._heartbeat_key(name), limits.heartbeat)
        for command in ("XREADGROUP", "XCLAIM"):
            # As Redis sends it: a dictionary would cost time, and hide a name given twice.
            client.set_response_callback(command, lambda reply, **_: reply)
        self._pid = os.getpid()
        self._put_back = client.register_script(lua.PUT_BACK)
        self._join = client.register_script(lua.JOIN)
        self._create = client.register_script(lua.CREATE)
        self._read_bytes = client.register_script(lua.READ_BYTES)
        self._forget = client.register_script(lua.FORGET_CONSUMER)

    def __repr__(self) -> str:
        return f"<Group {self._group}: {self.name}>"

    # Fetching.

    def fetch(
        self,
        streams: Sequence[str],
        *,
        count: int,
        wait: float,
        in_hand: Callable[[str, bytes], bool],
    ) -> list[StreamEntry]:
        """Up to `count` entries: what was lost on the way to us, then what dead consumers held,
        then new ones.

        wait: seconds for new ones, where there is nothing else.
        in_hand: whether the caller still has this entry of a stream.

        Raises redis.RedisError; nothing is lost then, the next call recovers it.
        """
        if self.forked:
            raise RuntimeError("this Connection is the parent process's; open another after a fork")
        self._heartbeat.begin()
        try:
            return self._lost_or_left(streams, count, in_hand) or self._read(streams, count, wait)
        except BaseException as error:
            # Whatever was ours already did not arrive, be it a reply or what is returned here.
            self._recovered.difference_update(streams)
            if not isinstance(error, redis.ResponseError) or not _group_is_gone(error):
                raise
        # Redis was wiped, or the queue deleted: from now on there is a new one.
        self._heartbeat.show()
        for stream in streams:
            self.create(stream)
        return self._read(streams, count, 0)

    def _lost_or_left(
        self, streams: Sequence[str], count: int, in_hand: Callable[[str, bytes], bool]
    ) -> list[StreamEntry]:
        found: list[StreamEntry] = []
        for stream in streams:
            if stream not in self._recovered:
                self._join(keys=[self._prefix + stream], args=[self._group, self.name])
                found += self._recover(stream, in_hand)
                self._recovered.add(stream)
            if len(found) < count and self._is_reclaim_due(stream):
                again = self.reclaim(stream, count - len(found))
                if again:
                    # Where there were some there may be more.
                    self._reclaim_at.pop(stream)
                found += again
        return found

    def create(self, stream: str) -> None:
        """Make the stream and its group; the group begins with the oldest entry."""
        try:
            # A full Redis refuses to create what is there already.
            groups: list[dict[str, Any]] = self._client.xinfo_groups(self._prefix + stream)
            if any(_text(found["name"]) == self._group for found in groups):
                return
        except redis.ResponseError as error:
            if not _group_is_gone(error):
                raise
        try:
            self._create(keys=[self._prefix + stream], args=[self._group])
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def reclaim(self, stream: str, count: int) -> list[StreamEntry]:
        """Up to `count` entries of consumers that are dead, as far as all of them may be of the
        largest kind; those without entries are forgotten.

        An entry that came to nothing twice comes alone: if it is what kills its consumers, its
        neighbours do not die with it.
        """
        key, count = self._prefix + stream, self._fitting(count)
        ready: list[tuple[bytes, int]] = []
        for consumer in self._without_heartbeat(self._others(stream)):
            idle = int(self._limits.reclaim_idle * 1000)
            rows = self._pending(stream, consumer, max(count, 100), idle=idle)
            if not rows:
                self._forget(
                    keys=[key, self._heartbeat_key(consumer)], args=[self._group, consumer]
                )
            for row in rows:
                wait = retry_wait(row["times_delivered"], self._limits.reclaim_idle)
                if row["time_since_delivered"] >= wait * 1000:
                    ready.append((row["message_id"], row["times_delivered"]))
        once = [id for id, deliveries in ready if deliveries == 1]
        if once:
            return self._claim(stream, once[:count], 1)
        for id, deliveries in ready:
            if found := self._claim(stream, [id], deliveries):
                return found
        return []

    def _pending(
        self, stream: str, consumer: str, count: int, start: str = "-", idle: int | None = None
    ) -> list[dict[str, Any]]:
        key, group = self._prefix + stream, self._group
        return list(self._client.xpending_range(key, group, start, "+", count, consumer, idle))

    def _others(self, stream: str) -> list[str]:
        rows: list[dict[str, Any]] = self._client.xinfo_consumers(
            self._prefix + stream, self._group
        )
        return [name for row in rows if (name := _text(row["name"])) != self.name]

    def _without_heartbeat(self, names: Sequence[str]) -> list[str]:
        if not names:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(self._heartbeat_key(name))
            return [name for name, alive in zip(names, pipe.execute(), strict=True) if not alive]

    def _claim(self, stream: str, ids: Sequence[bytes], deliveries: int) -> list[StreamEntry]:
        """Take pending entries over; those that somebody else was faster to take are left out."""
        reply: Any = self._client.execute_command(
            "XCLAIM",
            self._prefix + stream,
            self._group,
            self.name,
            int(self._limits.reclaim_idle * 1000),
            *ids,
        )
        return [StreamEntry(stream, id, fields, deliveries) for id, fields in _pairs(reply)]

    def _recover(self, stream: str, in_hand: Callable[[str, bytes], bool]) -> list[StreamEntry]:
        """Entries that Redis gave to this name and that never arrived; their deliveries are not
        counted, because no one had them."""
        key = self._prefix + stream
        found: list[StreamEntry] = []
        start = "-"
        while True:
            rows = self._pending(stream, self.name, _ENTRIES_PER_STEP, start)
            for row in rows:
                id, deliveries = row["message_id"], row["times_delivered"]
                if in_hand(stream, id):
                    continue
                reply: Any = self._client.execute_command(
                    *("XCLAIM", key, self._group, self.name, 0, id, "RETRYCOUNT", deliveries)
                )
                found += [StreamEntry(stream, id, f, deliveries - 1) for id, f in _pairs(reply)]
            if len(rows) < _ENTRIES_PER_STEP:
                return found
            start = f"({_text(rows[-1]['message_id'])}"

    def _read(self, streams: Sequence[str], count: int, wait: float) -> list[StreamEntry]:
        """New entries: up to `count` in all, from every stream its share."""
        if len(streams) > count:
            # Not enough for one of each. Only a look at one at a time keeps to the number.
            for stream in random.sample(list(streams), len(streams)):
                if found := self._read_group([stream], count, 0):
                    return found
            if wait <= 0:
                return []
        return self._read_group(streams, max(1, count // len(streams)), wait)

    def _fitting(self, count: int) -> int:
        """How many entries may come unseen."""
        if not self._limits.batch_bytes:
            return count
        return max(1, min(count, self._limits.batch_bytes // max(1, self._limits.largest)))

    def _read_group(self, streams: Sequence[str], count: int, wait: float) -> list[StreamEntry]:
        if self._limits.batch_bytes:
            keys = [self._prefix + stream for stream in streams]
            args: list[Any] = [self._group, self.name, count, self._limits.batch_bytes]
            if found := self._entries(streams, self._read_bytes(keys=keys, args=args)):
                return found
            count = self._fitting(count)
        words: list[Any] = ["XREADGROUP", "GROUP", self._group, self.name, "COUNT", count]
        if wait > 0:
            words += ["BLOCK", max(1, int(wait * 1000))]
        words += ["STREAMS", *(self._prefix + stream for stream in streams), *[">"] * len(streams)]
        return self._entries(streams, self._client.execute_command(*words))

    def _entries(self, streams: Sequence[str], reply: Any) -> list[StreamEntry]:
        names = {(self._prefix + stream).encode(): stream for stream in streams}
        return [
            StreamEntry(names[key], id, fields)
            for key, entries in reply or ()
            for id, fields in _pairs(entries)
        ]

    def _is_reclaim_due(self, stream: str) -> bool:
        now = monotonic()
        if now < self._reclaim_at.get(stream, 0.0):
            return False
        self._reclaim_at[stream] = now + self._limits.reclaim_every * random.uniform(0.8, 1.2)  # noqa: S311
        return True

    # Being done with entries.

    def ack(self, ids: Mapping[str, Collection[bytes]]) -> None:
        """The entries are used, or not wanted: all of them leave in one transaction."""
        try:
            self._delete(ids, transaction=True)
        except redis.OutOfMemoryError:
            # A full Redis takes no MULTI, not even one that only deletes. In this order a kill in
            # the middle leaves nothing but ids without an entry, which XCLAIM clears away.
            self._delete(ids, transaction=False)

    def _delete(self, ids: Mapping[str, Collection[bytes]], *, transaction: bool) -> None:
        with self._client.pipeline(transaction=transaction) as pipe:
            for stream, some in ids.items():
                key = self._prefix + stream
                pipe.execute_command("XDEL", key, *some)
                pipe.execute_command("XACK", key, self._group, *some)
            pipe.execute()

    def put_back(self, entries: Iterable[tuple[str, bytes]], *, counted: bool) -> None:
        """Make entries of a stream new ones at its end, for anybody. counted: whether this
        delivery is to count as one that came to nothing."""
        for stream, id in entries:
            self._put_back(
                keys=[self._prefix + stream],
                args=[self._group, id, self.name, int(not counted)],
            )

    # The queue as a whole.

    def ready(self, stream: str) -> int:
        """Entries that nobody holds."""
        key = self._prefix + stream
        with self._client.pipeline(transaction=False) as pipe:
            pipe.xlen(key)
            pipe.xpending(key, self._group)
            length, pending = pipe.execute(raise_on_error=False)
        if isinstance(length, Exception):
            raise length
        held = 0 if isinstance(pending, Exception) else int(pending["pending"])
        return max(0, int(length) - held)

    def purge(self, stream: str) -> int:
        """Throw away the entries that nobody holds; how many."""
        self.create(stream)
        done, there = 0, self.ready(stream)
        # Not for ever, where somebody publishes all the time.
        while done < there:
            try:
                entries = self._read_group([stream], min(_ENTRIES_PER_STEP, there - done), 0)
                if not entries:
                    break
                self.ack({stream: [entry.id for entry in entries]})
            except BaseException:
                self._recovered.discard(stream)
                raise
            done += len(entries)
        return done

    def has_others(self, stream: str) -> bool:
        """Whether another consumer of this stream is alive."""
        names = self._others(stream)
        return len(names) > len(self._without_heartbeat(names))

    # Being alive.

    @property
    def forked(self) -> bool:
        """Whether this object was made in another process, and is that one's."""
        return self._pid != os.getpid()

    def _heartbeat_key(self, consumer: str) -> str:
        return f"{self._prefix}bridge.alive.{self._group}.{consumer}"

    def fall_silent(self) -> None:
        """Stop showing life; others take over what is held when the heartbeat has ended."""
        self._heartbeat.fall_silent()

    def close(self, *, gone: bool) -> None:
        """Stop showing life. gone: tell Redis so, or leave it to the end of the heartbeat. Raises
        redis.RedisError."""
        self._heartbeat.close(gone=gone)


def _pairs(entries: Any) -> list[tuple[bytes, list[bytes]]]:
    """(id, fields) of the entries of a reply; without what was deleted meanwhile."""
    return [(id, fields) for id, fields in (entry for entry in entries if entry) if fields]


def _group_is_gone(error: redis.ResponseError) -> bool:
    text = str(error)
    return "NOGROUP" in text or "UNBLOCKED" in text or "no such key" in text


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
