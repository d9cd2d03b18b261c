"""Any sequence of publish, fetch, ack, reject, crash, reclaim, purge and delete, against a model.

Every message is in one place: ready, held by one consumer that lives, on its way to one (its
reply was lost), left by a dead one, or done. Redis must say the same after every step.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from stack.redis import Redis
from tests.queue.streams.site import Reader, connect, publish

QUEUE = "q"
READY, HELD, ACKED, LOST, LEFT = "ready", "held", "acknowledged, not yet sent", "lost", "left"
NEVER = 1e9
who = st.integers(0, 2)
_names = itertools.count()


class Machine(RuleBasedStateMachine):
    url: ClassVar[str]
    client: ClassVar[redis.Redis]

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.numbers = itertools.count()
        self.place: dict[str, tuple[str, int | None]] = {}
        self.done: set[str] = set()
        self.seen: set[str] = set()
        self.gone_in_hand: set[str] = set()
        self.readers: list[Reader] = []
        self.names: list[str] = []

    @initialize()
    def begin(self) -> None:
        for number in range(3):
            self.names.append(f"consumer{next(_names)}")
            self.readers.append(self.open(number))
        self.readers[0].look(0)

    def open(self, number: int) -> Reader:
        # Nothing happens by the clock: a fetch looks for what the dead left when it is told to.
        made = connect(
            self.url,
            consumer_name=self.names[number],
            heartbeat=NEVER,
            reclaim_idle=0,
            reclaim_every=NEVER,
        )
        reader = Reader(made, QUEUE, ack=False)
        reader.channel.group._reclaim_at[QUEUE] = float("inf")
        # Otherwise what a former connection of this name left is there until its heartbeat ends.
        reader.channel.group._heartbeat.begin()
        return reader

    def at(self, place: str, number: int | None = None) -> list[str]:
        return sorted((b for b, p in self.place.items() if p == (place, number)), key=int)

    def end(self, body: str) -> None:
        del self.place[body]
        self.done.add(body)

    def sent(self, number: int) -> None:
        """Acknowledgements that have reached Redis by now are done."""
        if not self.readers[number].channel.qos._acked_count:
            for body in self.at(ACKED, number):
                self.end(body)

    # What programs do.

    @rule(number=who, count=st.integers(1, 5))
    def publish(self, number: int, count: int) -> None:
        bodies = [str(next(self.numbers)) for _ in range(count)]
        publish(self.readers[number].connection, QUEUE, *bodies)
        self.place |= dict.fromkeys(bodies, (READY, None))

    @rule(number=who, count=st.integers(1, 5), reclaim=st.booleans())
    def fetch(self, number: int, count: int, reclaim: bool) -> None:
        reader = self.readers[number]
        reader.channel.batch = count
        if reclaim:
            reader.channel.group._reclaim_at.clear()
        before = len(reader.messages)
        reader.look(0)
        reader.channel.group._reclaim_at[QUEUE] = float("inf")
        self.sent(number)
        got = reader.texts[before:]
        assert len(set(got)) == len(got)
        if self.at(LOST, number):
            assert set(self.at(LOST, number)) <= set(got)
        elif self.at(READY):
            assert got
        if reclaim and self.at(LEFT):
            assert got
        for body in got:
            place, owner = self.place[body]
            assert place in (READY, LEFT) or (place, owner) == (LOST, number)
            assert place != LEFT or reclaim
            self.place[body] = (HELD, number)
        self.seen |= set(got)

    @rule(number=who, which=st.integers(0), how=st.sampled_from(["ack", "reject", "requeue"]))
    def finish(self, number: int, which: int, how: str) -> None:
        reader = self.readers[number]
        if not reader.messages:
            return
        message = reader.messages.pop(which % len(reader.messages))
        body = message.body.decode()
        getattr(message, how)()
        if body in self.gone_in_hand:
            self.gone_in_hand.discard(body)
        else:
            self.place[body] = (READY, None) if how == "requeue" else (ACKED, number)
        self.sent(number)

    @rule(number=who)
    def close(self, number: int) -> None:
        reader = self.readers[number]
        fetched = [entry.fields[1].decode() for entry in reader.channel._fetched]
        reader.connection.release()
        self.forget_in_hand(number)
        self.sent(number)
        for body in self.at(HELD, number) + fetched:
            self.place[body] = (READY, None)
        for body in self.at(LOST, number):
            # Redis has given them to this name, and others will see that it is gone.
            self.place[body] = (LEFT, None)
        self.names[number] = f"consumer{next(_names)}"
        self.readers[number] = self.open(number)

    # What happens to programs.

    @rule(number=who)
    def crash(self, number: int) -> None:
        group = self.readers[number].channel.group
        self.drop(number, LEFT, None)
        self.client.delete(group._heartbeat_key(group.name))
        self.names[number] = f"consumer{next(_names)}"
        self.readers[number] = self.open(number)

    @rule(number=who)
    def lose_the_connection(self, number: int) -> None:
        self.drop(number, LOST, number)
        self.readers[number] = self.open(number)

    def drop(self, number: int, place: str, owner: int | None) -> None:
        reader = self.readers[number]
        reader.channel.group.fall_silent()
        reader.channel.client.close()
        self.forget_in_hand(number)
        for was in (HELD, ACKED, LOST):
            for body in self.at(was, number):
                self.place[body] = (place, owner)

    def forget_in_hand(self, number: int) -> None:
        self.gone_in_hand -= set(self.readers[number].texts)

    @rule(number=who, count=st.integers(1, 5))
    def lose_a_reply_and_ask_again(self, number: int, count: int) -> None:
        self.lose_a_reply(number, count)
        self.fetch(number, count, False)

    @rule(number=who, count=st.integers(1, 5))
    def lose_a_reply(self, number: int, count: int) -> None:
        group = self.readers[number].channel.group
        if not self.at(READY) or self.readers[number].channel._fetched:
            return
        real = group._read_group
        got: list[Any] = []

        def lose(*args: Any) -> Any:
            got.extend(real(*args))
            raise redis.ConnectionError("lost")

        group._read_group = lose  # type: ignore[method-assign]
        # What is in the way is fetched first, and then nothing of this is.
        try:
            found = group.fetch(
                [QUEUE], count=count, wait=0, in_hand=self.readers[number].channel._in_hand
            )
            self.readers[number].channel._fetched.extend(found)
            for entry in found:
                self.place[entry.fields[1].decode()] = (LOST, number)
        except redis.ConnectionError:
            pass
        finally:
            del group._read_group
        for entry in got:
            self.place[entry.fields[1].decode()] = (LOST, number)

    @rule(number=who)
    def purge(self, number: int) -> None:
        ready = self.at(READY)
        assert self.readers[number].channel.queue_purge(QUEUE) == len(ready)
        for body in ready:
            self.end(body)

    @rule(number=who, wipe=st.booleans())
    def delete(self, number: int, wipe: bool) -> None:
        if wipe:
            self.client.flushall()
            for reader in self.readers:
                reader.channel.group._heartbeat.show()
        else:
            self.readers[number].channel.queue_delete(QUEUE)
        for reader in self.readers:
            self.gone_in_hand |= set(reader.texts)
            # What was recovered and not delivered yet is delivered nevertheless: not here.
            reader.channel._fetched.clear()
        for body in list(self.place):
            self.end(body)
        self.readers[0].channel.queue_declare(QUEUE)

    # What must be so.

    @invariant()
    def redis_says_the_same(self) -> None:
        bodies = {id: fields[b"body"].decode() for id, fields in self.client.xrange(QUEUE)}
        assert len(set(bodies.values())) == len(bodies)
        held: dict[str, set[str]] = defaultdict(set)
        rows: list[dict[str, Any]] = []
        if self.client.exists(QUEUE) and self.client.xinfo_groups(QUEUE):
            rows = self.client.xpending_range(QUEUE, "bridge", "-", "+", 10_000)
        live = {reader.channel.group.name: n for n, reader in enumerate(self.readers)}
        for row in rows:
            name = row["consumer"].decode()
            held[str(live.get(name, ""))].add(bodies.pop(row["message_id"]))
        for number in range(len(self.readers)):
            mine = {b for place in (HELD, ACKED, LOST) for b in self.at(place, number)}
            assert held[str(number)] == mine
        assert held[""] == set(self.at(LEFT))
        assert set(bodies.values()) == set(self.at(READY))

    def teardown(self) -> None:
        try:
            if self.readers:
                self.drain()
        finally:
            for reader in self.readers:
                reader.connection.release()

    def drain(self) -> None:
        for number in (1, 2):
            self.close(number)
        expected = set(self.place)
        last = self.readers[0]
        left: set[str] = set()
        while expected - left:
            mine = {message.body.decode() for message in last.messages}
            for message in last.messages:
                message.ack()
            last.messages.clear()
            left |= mine
            # Twice in vain is once too often: there would be something that nobody gets.
            last.channel.group._reclaim_at.clear()
            last.look(0)
            if not last.messages:
                break
        last.channel.qos.flush()
        acked = set(self.at(ACKED, 0))
        assert not {body: self.place[body] for body in expected - left - acked}
        assert self.client.xlen(QUEUE) == 0


@pytest.fixture
def machine(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Machine]]:
    monkeypatch.setattr(
        "bridge.queue.streams.group.retry_wait", lambda deliveries, shortest=0.0: 0.0
    )
    with redis_server.client() as client:
        Machine.url, Machine.client = redis_server.url, client
        yield Machine


CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def test_every_message_is_in_one_place_whatever_happens(machine: type[Machine]) -> None:
    run(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=CHECKS
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_message_is_in_one_place_in_very_many_histories(machine: type[Machine]) -> None:
    run(
        machine,
        settings=settings(
            max_examples=1500, stateful_step_count=80, deadline=None, suppress_health_check=CHECKS
        ),
    )
