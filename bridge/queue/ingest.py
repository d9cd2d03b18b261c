"""`POST /events`: events by HTTP, for producers that are not PHP or not in the same place.

Takes CloudEvents in structured mode, one or a batch, checks every one, and answers 202 when the
broker has confirmed them all. Who may send is asked before, by `bridge.operator`; how events get
to the broker is left to the publisher.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from werkzeug.wrappers import Request, Response

from bridge.errors import ServerAway, UndecodableMessage
from bridge.queue.events import LARGER, MAX_EVENT_BYTES, Event, load_json

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_EVENTS", "Ingest", "PublisherPool"]

log = structlog.get_logger("bridge.ingest")

MAX_BATCH_BYTES = 16 * 1024 * 1024
"""The longest body of a batch."""
MAX_BATCH_EVENTS = 1000
"""The most events of a batch."""

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
_RETRY_AFTER = 5  # seconds
_WAIT = 10.0  # seconds to wait for one's turn

PublishMany = Callable[[Sequence[Event]], None]


class _Refused(Exception):
    """`errors` is for the client: the event's index in the batch or None for the whole body."""

    def __init__(self, status: int, *errors: tuple[int | None, str], **headers: str) -> None:
        self.status, self.errors, self.headers = status, errors, headers
        super().__init__(status)


class Ingest:
    """Answers requests to `POST /events`; the caller has checked the token and the method.

    publish_many: returns when the broker has all events; raises ServerAway when it may not.
        It is called from several threads: `PublisherPool.publish_many`.
    at_a_time: bodies that are decoded and published at a time. Others wait: decoded, one takes
        many times its size in memory. max_event: bytes of the largest event.
    """

    def __init__(
        self,
        publish_many: PublishMany,
        *,
        at_a_time: int = 4,
        max_event: int = MAX_EVENT_BYTES,
    ) -> None:
        self._publish_many, self._max_event = publish_many, max_event
        # Of larger events fewer at a time.
        fewer = at_a_time * MAX_BATCH_BYTES // max(MAX_BATCH_BYTES, max_event)
        self._turns = threading.BoundedSemaphore(max(1, fewer))

    def __call__(self, request: Request) -> Response:
        try:
            kind = _kind_of(request)
            body = _read(request, kind, self._max_event)
            # Not around the reading: a slow client takes nobody's turn.
            if not self._turns.acquire(timeout=_WAIT):
                raise _away("too many requests at a time; nothing was accepted")
            try:
                events = _decode(body, kind, self._max_event)
                self._publish(events)
            finally:
                self._turns.release()
        except _Refused as refused:
            errors = [{"index": index, "error": error} for index, error in refused.errors]
            return _json({"errors": errors}, refused.status, refused.headers)
        return _json({"accepted": len(events)}, 202, {})

    def _publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        try:
            self._publish_many(events)
        except ServerAway as error:
            log.warning("events not accepted: the broker is away", error=str(error))
            raise _away(
                "the broker is away; some of these events may be on the queue already, and it is "
                "safe to send all of them again"
            ) from None


def _away(text: str) -> _Refused:
    return _Refused(503, (None, text), **{"Retry-After": str(_RETRY_AFTER)})


def _json(content: object, status: int, headers: dict[str, str]) -> Response:
    return Response(f"{json.dumps(content)}\n", status, headers, mimetype=JSON)


# --- the request


def _kind_of(request: Request) -> str:
    """SINGLE, BATCH or JSON (which may be either)."""
    kind = request.mimetype
    ways = f"send {SINGLE} for one event, {BATCH} for many, or {JSON} for either"
    if kind not in (SINGLE, BATCH) and any(name.startswith("Ce-") for name, _ in request.headers):
        raise _Refused(415, (None, f"CloudEvents in headers (binary mode) are not taken; {ways}"))
    if kind not in (SINGLE, BATCH, JSON):
        raise _Refused(415, (None, f"{kind or 'a body without Content-Type'} is not taken; {ways}"))
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8"):
        raise _Refused(415, (None, "the charset must be utf-8"))
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        raise _Refused(415, (None, "send the body without Content-Encoding"))
    return kind


def _read(request: Request, kind: str, max_event: int) -> bytes:
    """The body, of which no more is read than may be there."""
    limit = max_event if kind == SINGLE else max(MAX_BATCH_BYTES, max_event)
    length = request.content_length
    if length is None:
        if not request.environ.get("wsgi.input_terminated"):
            raise _Refused(411, (None, "send Content-Length"))
        length = limit + 1  # chunked: it ends by itself, or is too long
    elif length > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        while len(body) < length:
            piece = request.environ["wsgi.input"].read(min(65536, length - len(body)))
            if not piece:
                break
            body += piece
    except TimeoutError:
        raise _Refused(408, (None, "the rest of the body did not come in time")) from None
    except OSError as error:
        raise _Refused(400, (None, str(error))) from None
    if len(body) > limit:
        raise _too_large(limit)
    if request.content_length is not None and len(body) < length:
        raise _Refused(400, (None, f"the body ended {length - len(body)} bytes too early"))
    return bytes(body)


def _too_large(limit: int) -> _Refused:
    hint = LARGER if limit != MAX_BATCH_BYTES else "send fewer events at a time"
    return _Refused(413, (None, f"the body has more than {limit} bytes; {hint}"))


def _decode(body: bytes, kind: str, max_event: int) -> list[Event]:
    """The events in a body. Raises _Refused with everything that is wrong."""
    try:
        content = load_json(body, max(MAX_BATCH_BYTES, max_event))
    except UndecodableMessage as error:
        raise _Refused(400, (None, str(error))) from None
    if isinstance(content, list):
        if kind == SINGLE:
            raise _Refused(400, (None, f"a list; send many events as {BATCH}"))
        if len(content) > MAX_BATCH_EVENTS:
            raise _Refused(413, (None, f"the batch has more than {MAX_BATCH_EVENTS} events"))
    elif kind == BATCH:
        raise _Refused(400, (None, f"no list; send one event as {SINGLE}"))
    else:
        if len(body) > max_event:
            raise _too_large(max_event)
        content = [content]
    events, errors = [], []
    for index, attributes in enumerate(content):
        try:
            events.append(_event(attributes, max_event))
        except UndecodableMessage as error:
            errors.append((index, str(error)))
    if errors:
        raise _Refused(400, *errors)
    return events


def _event(attributes: Any, max_event: int) -> Event:
    # A text in a list is no event, though Event.parse would decode it.
    if not isinstance(attributes, dict):
        raise UndecodableMessage("not a JSON object")
    event = Event.parse(attributes)
    event.to_json(max_event)  # may be longer than what came: 1e9 is 1000000000.0
    return event


# --- the publishers


class Closable(Protocol):
    """What `PublisherPool` holds: `bridge.queue.broker.publisher.Publisher`. Each is for one
    thread."""

    def publish_many(self, events: Sequence[Event], /) -> None: ...

    def close(self) -> None: ...


class PublisherPool:
    """At most `size` publishers, made when first needed; each is used by one thread at a time.

    make: gives a publisher; raises ServerAway when the broker is away.
    wait: seconds to wait for a free one.
    """

    def __init__(self, make: Callable[[], Closable], size: int = 4, wait: float = 10) -> None:
        self._make, self._wait = make, wait
        # Last in, first out: a quiet site uses one connection. None: not made yet.
        self._free: queue.LifoQueue[Closable | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @classmethod
    def of(cls, broker_url: str, size: int = 4, max_event: int = MAX_EVENT_BYTES) -> PublisherPool:
        """A pool of `bridge.queue.broker.publisher.Publisher` for `broker_url`."""

        def make() -> Closable:
            # Kombu is loaded by the first event, not by every listener.
            from bridge.queue.broker.publisher import Publisher

            return Publisher(broker_url, max_event=max_event)

        return cls(make, size)

    def publish_many(self, events: Sequence[Event]) -> None:
        """Publish with a free publisher. Raises ServerAway when the broker is away, or when
        none gets free in time."""
        try:
            publisher = self._free.get(timeout=self._wait)
        except queue.Empty:
            raise ServerAway("every connection to the broker is busy") from None
        # After an unforeseen error nobody knows the state of its connection: make another.
        keep: Closable | None = None
        try:
            publisher = publisher or self._make()
            try:
                publisher.publish_many(events)
                keep = publisher
            except ServerAway:
                keep = publisher  # it connects again by itself
                raise
            finally:
                if keep is None:
                    publisher.close()
        finally:
            self._free.put(keep)

    def close(self) -> None:
        """Close the publishers, of which none is in use. Another use makes new ones."""
        free = [self._free.get_nowait() for _ in range(self._free.qsize())]
        for publisher in free:
            if publisher:
                publisher.close()
            self._free.put(None)
