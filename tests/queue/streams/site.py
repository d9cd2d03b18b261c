"""Consumers and producers on `bridge.queue.streams` for its tests, in this process or another."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import kombu
from kombu import Connection, Consumer, Producer, Queue

import bridge.queue.streams  # noqa: F401  # registers the URLs
from stack.process import REPOSITORY

QUICK = {"heartbeat": 0.4, "reclaim_idle": 0.05, "reclaim_every": 0.05}
"""Transport options of consumers that notice deaths soon."""


def connect(url: str, **options: Any) -> Connection:
    """A connection; url: redis://…, options: transport options."""
    return Connection(url.replace("redis://", "redis+streams://"), transport_options=options)


def publish(connection: Connection, queue: str, *bodies: str) -> None:
    """Put texts on a queue as one batch."""
    channel = connection.default_channel
    producer = Producer(channel)
    with channel.publishing():
        for body in bodies:
            producer.publish(
                body, routing_key=queue, content_type="text/plain", content_encoding="utf-8"
            )


class Reader:
    """A consumer that keeps what it got; acknowledges it unless told otherwise."""

    def __init__(self, connection: Connection, *queues: str, ack: bool = True, **kw: Any) -> None:
        self.connection, self.ack = connection, ack
        self.channel = kw.pop("channel", None) or connection.default_channel
        self.messages: list[Any] = []
        self.consumer = Consumer(
            self.channel,
            [Queue(name, routing_key=name) for name in queues],
            on_message=self._receive,
            **kw,
        )
        self.consumer.consume()

    def _receive(self, message: Any) -> None:
        self.messages.append(message)
        if self.ack:
            message.ack()

    @property
    def texts(self) -> list[str]:
        return [message.body.decode() for message in self.messages]

    def look(self, timeout: float = 0.2) -> None:
        """One look for messages."""
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=timeout)

    def has(self, count: int) -> Callable[[], bool]:
        """For `wait_for`: look once; whether there are so many messages in all."""

        def enough() -> bool:
            self.look(0.05)
            return len(self.messages) >= count

        return enough


WORKER = """
import sys, time
import kombu, bridge.queue.streams
url, queue, options, work = sys.argv[1], sys.argv[2], eval(sys.argv[3]), sys.argv[4]
connection = kombu.Connection(url, transport_options=options)
def receive(message):
    print("got", message.body.decode(), message.headers.get("x-delivery-count", 0), flush=True)
    exec(work)
with kombu.Consumer(connection.default_channel, [kombu.Queue(queue, routing_key=queue)],
                    on_message=receive):
    print("ready", flush=True)
    while True:
        try:
            connection.drain_events(timeout=5)
        except TimeoutError:
            pass
"""


@contextmanager
def worker(
    url: str, queue: str, work: str = "message.ack()", **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A consumer in a process of its own; it prints `got BODY COUNT` and then does `work`."""
    words = [url.replace("redis://", "redis+streams://"), queue, repr(options), work]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


__all__ = ["QUICK", "Reader", "connect", "kombu", "publish", "worker"]
