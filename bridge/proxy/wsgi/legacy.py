"""The blocking client to the legacy backend: a bounded pool of connections, one request each.

Steps of an exchange: (1) take a connection, (2) send the head and stream the body, watching
for an early answer, (3) read the answer's head, (4) stream its body, (5) give the connection
back or close it. Every failure names its stage (`bridge.errors.LegacyError`). The bytes
themselves are `bridge.proxy.http.wire`'s; what the headers may say is `bridge.proxy.http.headers`'.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from bridge.errors import LegacyError
from bridge.proxy.backends.prober import Prober
from bridge.proxy.backends.servers import Server, Servers
from bridge.proxy.hooks import Outcome
from bridge.proxy.http.wire import (
    REPEATABLE,
    ChunkedReader,
    ResponseHead,
    WireError,
    binds,
    framing,
    request_head,
    split_head,
)
from bridge.proxy.pools import RetryBudget
from bridge.proxy.request.head import Headers
from bridge.proxy.routing import models
from bridge.proxy.wsgi.connection import Address, Connection
from bridge.proxy.wsgi.upload import EarlyAnswer, RequestBody, framed_pieces
from bridge.reasons import Stage

__all__ = ["Exchange", "LegacyPool"]


OnHints = Callable[[Headers], None]


class _Stale(Exception):
    """A pooled connection turned out to be closed before any byte came back."""


@dataclass(eq=False)
class Exchange:
    """An answer whose head is here and whose body streams. Close it always."""

    status: int
    reason: str
    headers: Headers
    _pieces: Iterator[bytes]
    _finish: Callable[[], None]
    waiting: bool = False
    """Whether the first piece of the body still has to come from the network."""

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """Give up what was not read. The connection is kept only if the body was complete."""
        self._finish()


@dataclass(eq=False)
class LegacyPool:
    """Connections of this process to one backend: last in, first out, and bounded. Thread-safe."""

    name: str
    spec: models.Backend
    _idle: list[Connection] = field(default_factory=list)
    _active: int = 0
    _waiting: int = 0
    _budget: RetryBudget = field(default_factory=RetryBudget)
    _closed: bool = False
    _free: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.servers = Servers(self.name, self.spec.urls)
        self._addresses = {one: Address(self.spec, one) for one in self.servers.all}
        self._prober = Prober(self.spec, self.servers) if self.spec.health else None

    def __repr__(self) -> str:
        return f"<LegacyPool {self.name}: {self._active} active, {len(self._idle)} idle>"

    def exchange(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: RequestBody | None,
        on_hints: OnHints | None,
        outcome: Outcome,
    ) -> Exchange:
        """Send a request and read the head of its answer.

        target: without the path in the backend's URL.
        on_hints: gets the headers of a 103.
        outcome: gets the times of the stages.

        Raises LegacyError with the stage, and VisitorError when the visitor's body breaks off.
        A request is sent again only when a pooled connection was stale before any byte of an
        answer, only for GET, HEAD and OPTIONS without a body, and only within a budget.
        """
        repeatable = body is None and method in REPEATABLE
        binding = binds(headers)
        self._budget.requests += 1
        framed = [*headers, body.header] if body is not None else headers
        if target != "*":
            target = self.spec.prefix + target
        head = request_head(method, target, framed)
        # A request that cannot be repeated gets a fresh connection: it must not meet a stale one.
        outcome.legacy = self.name
        connection = self._take(outcome, fresh=binding or not repeatable)
        try:
            return self._attempt(connection, method, head, body, on_hints, outcome, binding)
        except _Stale:
            if not self._budget.take():
                raise LegacyError(Stage.FIRST_BYTE, 502, "closed without an answer") from None
        connection = self._take(outcome, fresh=True)
        try:
            return self._attempt(connection, method, head, body, on_hints, outcome, binding)
        except _Stale:  # pragma: no cover - a fresh connection is never stale
            raise LegacyError(Stage.FIRST_BYTE, 502, "closed without an answer") from None

    def _attempt(
        self,
        connection: Connection,
        method: str,
        head: bytes,
        body: RequestBody | None,
        on_hints: OnHints | None,
        outcome: Outcome,
        binding: bool,
    ) -> Exchange:
        began = time.perf_counter()
        try:
            try:
                complete = self._send(connection, head, body)
                answer = self._read_head(connection, on_hints)
            except LegacyError as error:
                if error.stage == Stage.FIRST_BYTE:
                    self.servers.was_silent(connection.server, time.monotonic())
                raise
            finally:
                outcome.first_byte = time.perf_counter() - began
            self.servers.answered(connection.server)
            outcome.odd = answer.odd
            # Who a connection belongs to is nobody else's, and there is no visitor's one here
            # that it could be kept for.
            keep = complete and not binding and not answer.binds
            return self._stream(connection, method, answer, reusable=keep)
        except WireError as error:
            self._drop(connection)
            raise LegacyError(Stage.HEAD, 502, f"is no HTTP: {error}") from None
        except BaseException:
            self._drop(connection)
            raise

    # (1) take a connection

    def _take(self, outcome: Outcome, *, fresh: bool) -> Connection:
        deadline = time.monotonic() + self.spec.timeouts.wait
        began = time.perf_counter()
        try:
            while (connection := self._place(deadline, fresh=fresh)) is not None:
                # The look at its socket is outside the lock: other requests would wait for it.
                if not connection.has_news():
                    return connection
                self._drop(connection)
        finally:
            outcome.wait = time.perf_counter() - began
        began = time.perf_counter()
        try:
            return self._connect()
        except BaseException:
            self._release(None)
            raise
        finally:
            outcome.connect = time.perf_counter() - began

    def _connect(self) -> Connection:
        """A connection to one of the servers: nothing of the request is sent yet."""
        tried: list[Server] = []
        while True:
            server = self.servers.pick(time.monotonic(), tried)
            try:
                connection = self._addresses[server].connect()
            except LegacyError:
                now = time.monotonic()
                self.servers.refused(server, now)
                tried.append(server)
                if not self.servers.another(now, tried):
                    raise
            else:
                with self._free:
                    server.busy += 1
                return connection

    def _place(self, deadline: float, *, fresh: bool) -> Connection | None:
        """A place among the connections: an idle connection, or None for a new one."""
        limits = self.spec.limits
        to_close: list[Connection] = []
        try:
            with self._free:
                while True:
                    now = time.monotonic()
                    while self._idle and now - self._idle[0].idle_since > self.spec.timeouts.idle:
                        to_close.append(self._idle.pop(0))
                    if self._active < limits.at_once:
                        self._active += 1
                        if not fresh and (connection := self._idle_one()) is not None:
                            return connection
                        if self._idle:
                            # Never more than were needed at a time: each may hold a process.
                            to_close.append(self._idle.pop(0))
                        return None
                    if self._waiting >= limits.waiting or not self._wait(deadline - now):
                        raise LegacyError(Stage.WAIT, 503, limits.busy)
        finally:
            for connection in to_close:
                connection.close()

    def _idle_one(self) -> Connection | None:
        """The last one that was given back, of the server whose turn it is."""
        server = self.servers.pick(time.monotonic())
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place].server is server:
                server.busy += 1
                return self._idle.pop(place)
        return None

    def _wait(self, seconds: float) -> bool:
        self._waiting += 1
        try:
            return self._free.wait(seconds)
        finally:
            self._waiting -= 1

    # (2) send

    def _send(self, connection: Connection, head: bytes, body: RequestBody | None) -> bool:
        """Send everything; False when an early answer came before the body was through."""
        seconds = self.spec.timeouts.send
        watch = body.watch if body is not None else None
        silence = body.silence if body is not None else 0.0
        try:
            connection.send(head, seconds)
            if watch is not None:
                watch(partial(connection.wait_for_visitor, seconds=silence))
            for piece in framed_pieces(body) if body is not None else ():
                if connection.has_answer():
                    return False
                connection.send(piece, seconds)
        except EarlyAnswer:
            return False
        except TimeoutError:
            raise LegacyError(Stage.SEND, 504, f"takes nothing for {seconds:g} s") from None
        except OSError as error:
            if connection.pooled:
                raise _Stale from None
            if connection.has_news():
                return False  # it hung up on the upload, maybe with an answer
            raise LegacyError(Stage.SEND, 502, error.strerror or str(error)) from None
        finally:
            if watch is not None:
                watch(None)
        return True

    # (3) read the head

    def _read_head(
        self,
        connection: Connection,
        on_hints: OnHints | None,
    ) -> ResponseHead:
        seconds, limit = self.spec.timeouts.first_byte, self.spec.limits.response_head
        deadline = time.monotonic() + seconds
        data, interim = b"", False
        while True:
            split = split_head(data)
            if split and len(split[0]) <= limit:
                lines, connection.buffer = split
                head = ResponseHead.parse(lines)
                if head.status >= 200:
                    return head
                if head.status == 101:
                    raise WireError("101 without an Upgrade")
                if head.status == 103 and on_hints:
                    with contextlib.suppress(OSError):  # writing the answer will say it
                        on_hints([h for h in head.headers if h[0].lower() == "link"])
                data, connection.buffer, interim = connection.buffer, b"", True
                continue
            if len(data) > limit:
                raise LegacyError(Stage.HEAD, 502, f"headers are larger than {limit} bytes")
            try:
                received = connection.receive(max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                raise LegacyError(
                    Stage.FIRST_BYTE, 504, f"no answer within {seconds:g} s"
                ) from None
            except OSError as error:
                if connection.pooled and not data and not interim:
                    raise _Stale from None
                raise LegacyError(Stage.FIRST_BYTE, 502, error.strerror or str(error)) from None
            if not received:
                if connection.pooled and not data and not interim:
                    raise _Stale
                raise LegacyError(Stage.FIRST_BYTE, 502, "closed without an answer")
            data += received

    # (4) stream the body

    def _stream(
        self, connection: Connection, method: str, head: ResponseHead, *, reusable: bool
    ) -> Exchange:
        frame = framing(method, head)
        reusable = reusable and head.keeps_alive
        settled = False

        def settle(keep: bool) -> None:
            nonlocal settled
            if not settled:
                settled = True
                # What comes later is seen when the connection is taken again.
                if keep and not connection.buffer:
                    self._release(connection)
                else:
                    self._drop(connection)

        def exchange(pieces: Iterator[bytes], waiting: bool = False) -> Exchange:
            return Exchange(
                head.status, head.reason, headers, pieces, lambda: settle(False), waiting
            )

        headers = head.plain_length()
        if head.status == 205:
            # Whatever came with it is no content (RFC 9110, section 15.3.6).
            settle(reusable and frame.length == 0)
            return exchange(iter(()))
        if frame.length is not None and len(connection.buffer) >= frame.length:
            whole, connection.buffer = (
                connection.buffer[: frame.length],
                connection.buffer[frame.length :],
            )
            settle(reusable)
            return exchange(iter((whole,) if whole else ()))

        def receive() -> bytes:
            seconds = self.spec.timeouts.between_bytes
            try:
                return connection.receive(seconds)
            except TimeoutError:
                raise LegacyError(Stage.BODY, 504, f"stalled for {seconds:g} s") from None
            except OSError as error:
                raise LegacyError(Stage.BODY, 502, error.strerror or str(error)) from None

        def by_length(left: int) -> Iterator[bytes]:
            while left:
                data = receive()
                if not data:
                    raise LegacyError(Stage.BODY, 502, f"ended {left} bytes early")
                if len(data) > left:
                    connection.buffer, data = data[left:], data[:left]
                left -= len(data)
                if not left:
                    settle(reusable)
                yield data

        def by_chunks(reader: ChunkedReader, pieces: list[bytes]) -> Iterator[bytes]:
            while True:
                if reader.done:
                    connection.buffer = reader.leftover
                    settle(reusable)
                yield from pieces
                if reader.done:
                    return
                data = receive()
                if not data:
                    raise LegacyError(Stage.BODY, 502, "ended before the last chunk")
                try:
                    pieces = reader.feed(data)
                except WireError as error:
                    raise LegacyError(Stage.BODY, 502, f"is no HTTP: {error}") from None

        def until_close() -> Iterator[bytes]:
            while data := receive():
                yield data

        if frame.chunked:
            # What came with the head is read now: if it is garbage, there can still be a 502.
            reader = ChunkedReader()
            here, connection.buffer = connection.buffer, b""
            pieces = reader.feed(here)
            return exchange(by_chunks(reader, pieces), not pieces and not reader.done)
        waiting = not connection.buffer
        if frame.length is not None:
            return exchange(by_length(frame.length), waiting)
        return exchange(until_close(), waiting)

    # (5) give back or close

    def _release(self, connection: Connection | None) -> None:
        with self._free:
            self._active -= 1
            if connection is not None:
                connection.server.busy -= 1
            if connection is not None and self.spec.keep_alive and not self._closed:
                connection.pooled, connection.idle_since = True, time.monotonic()
                self._idle.append(connection)
                connection = None
            self._free.notify()
        if connection is not None:
            connection.close()

    def _drop(self, connection: Connection) -> None:
        connection.close()
        with self._free:
            connection.server.busy -= 1
        self._release(None)

    def close(self) -> None:
        """Close what is idle; active connections end with their requests."""
        if self._prober is not None:
            self._prober.close()
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
