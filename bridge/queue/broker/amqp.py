"""What RabbitMQ needs and Kombu does not do by itself.

Time limits for every call, so that a broker that hangs is noticed; confirms that are awaited for
a whole batch, not for each message; heartbeats while the program is busy with something else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer
from kombu.transport import pyamqp
from vine import ensure_promise  # type: ignore[import-untyped]

from bridge.queue import unpack
from bridge.queue.broker.broker import put

__all__ = [
    "HEARTBEAT",
    "PATIENCE",
    "Confirms",
    "Heartbeats",
    "PatientChannel",
    "no_limit",
    "prepare",
]

PATIENCE = 10.0
"""Seconds that RabbitMQ may take for an answer, or for the next confirm."""
HEARTBEAT = 5
"""Seconds between signs of life; after two without one, the other side is given up."""


def prepare(connection: Connection, patience: float = PATIENCE) -> None:
    """Give a fresh connection its time limit, in seconds."""
    raw: Any = connection.connection
    # py-amqp waits without end where it is not told otherwise, also when it closes.
    raw.sock.settimeout(patience)
    raw.Channel = PatientChannel
    # With this capability py-amqp looks before each message whether the broker is full, and spins
    # when a frame is cut in two meanwhile. The time limit finds out.
    raw.client_properties.get("capabilities", {}).pop("connection.blocked", None)


def no_limit(connection: Connection) -> dict[str, int]:
    """Arguments of a quorum queue that must not throw messages away by itself.

    Since RabbitMQ 4.0 a message that came back twenty times is dropped, unless the queue was
    declared with -1; older ones know no such limit and refuse the -1.
    """
    raw: Any = connection.connection
    major = str(raw.server_properties.get("version", "")).partition(".")[0]
    return {"x-delivery-limit": -1} if major.isdecimal() and int(major) >= 4 else {}


def _read(raw: Any, end: float) -> None:
    """Let a connection of py-amqp read one frame until the moment `end`. Raises TimeoutError."""
    if (left := end - monotonic()) <= 0:
        raise TimeoutError
    # Not drain_events: that goes on for as long as heartbeats come in time.
    raw.blocking_read(left)


class PatientChannel(pyamqp.Channel):
    """A channel that waits for an answer as long as the connection's time limit says. The limit of
    the socket alone does not: a broker that is stuck with our question sends heartbeats on."""

    Message: Any = type("Message", (pyamqp.Message, unpack.Limited), {})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The bytes as they were sent: what is no UTF-8 must not look like a lost connection.
        self.auto_decode = False

    def wait(
        self, method: Any, callback: Any = None, timeout: float | None = None, **how: Any
    ) -> Any:
        if timeout is None:
            callback = ensure_promise(callback)
            self._wait_for(callback, method if isinstance(method, list) else [method])
        return super().wait(method, callback, timeout, **how)

    def _wait_for(self, answer: Any, methods: list[Any]) -> None:
        before = {method: self._pending.get(method) for method in methods}
        self._pending.update(dict.fromkeys(methods, answer))
        patience = self.connection.sock.gettimeout() if self.connection else PATIENCE
        end = monotonic() + patience
        try:
            while not answer.ready and self.connection is not None:
                _read(self.connection, end)
        except TimeoutError:
            raise TimeoutError(
                f"RabbitMQ gave no answer for {patience:g} s; it gives none about a queue that has "
                "lost the majority of its members"
            ) from None
        finally:
            for method, other in before.items():
                self._pending.pop(method, None)
                if other is not None:
                    self._pending[method] = other


class Confirms:
    """A channel that counts its messages, as the broker does, until they are confirmed."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Any = connection.connection
        self._patience = self._connection.sock.gettimeout() or PATIENCE
        self.channel: Any = connection.channel()
        self.channel.confirm_select()
        self._producer = Producer(self.channel)
        self._number = 0
        self._waiting: dict[int, None] = {}
        self._refused: list[str] = []
        self.channel.events["basic_ack"].add(self._confirmed)
        self.channel.events["basic_nack"].add(self._nacked)
        self.channel.events["basic_return"].add(self._returned)

    def publish(self, queue: str, texts: Sequence[bytes], headers: Mapping[str, str]) -> None:
        """Put JSON texts on a queue and return when RabbitMQ has confirmed all of them. Raises
        OperationalError when it refuses one or has no such queue, TimeoutError when it confirms
        nothing for as long as the connection's time limit says, and Kombu's errors."""
        for text in texts:
            self._number += 1
            self._waiting[self._number] = None
            # A queue that is not there would be confirmed too.
            put(self._producer, queue, text, headers, mandatory=True)
        self._wait()

    def _wait(self) -> None:
        end = monotonic() + self._patience
        while waiting := len(self._waiting):
            try:
                _read(self._connection, end)
            except TimeoutError:
                raise TimeoutError(
                    f"RabbitMQ confirmed no message for {self._patience:g} s"
                ) from None
            if len(self._waiting) < waiting:
                end = monotonic() + self._patience
        if self._refused:
            raise OperationalError(
                f"RabbitMQ refused {len(self._refused)} messages: {self._refused[0]}"
            )

    def _confirmed(self, number: int, multiple: bool) -> None:
        if not multiple:
            self._waiting.pop(number, None)
            return
        # They are in order.
        while self._waiting and (first := next(iter(self._waiting))) <= number:
            del self._waiting[first]

    def _nacked(self, number: int, multiple: bool) -> None:
        self._refused.append("negative confirm")
        self._confirmed(number, multiple)

    def _returned(self, error: Exception, exchange: str, queue: str, message: Any) -> None:
        self._refused.append(f"there is no queue {queue}")


class Heartbeats:
    """Keeps the connection of a consumer alive, and notices when the broker is not.

    RabbitMQ closes a connection that is silent for two heartbeats, and counts a delivery for
    each message that it takes back: a long wait for another server must not look like that.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw: Any = connection.connection
        self._is_busy, self._lock = False, threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="amqp-heartbeats", daemon=True)
        self._thread.start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Inside, the caller does not use the connection; heartbeats are sent meanwhile."""
        with self._lock:
            self._is_busy = True
        try:
            yield
        finally:
            # Waits for a heartbeat that is on its way: never two threads at one socket.
            with self._lock:
                self._is_busy = False

    def check(self, channel: Any) -> None:
        """To be called often, after reading all there is. Raises an error of Kombu's when the
        broker was silent for two heartbeats, or has closed the channel."""
        self._connection.heartbeat_check()
        if not channel.is_open:
            raise OperationalError("the channel was closed")

    def close(self) -> None:
        """No more heartbeats."""
        self._end.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT / 3):
            with self._lock:
                if self._is_busy:
                    try:
                        self._raw.send_heartbeat()
                    except (*self._raw.connection_errors, AttributeError):
                        return  # the consumer's own thread finds out
