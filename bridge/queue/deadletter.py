"""Dead letters: messages that nobody could use, kept whole until a person decides.

They are on the queue `bridge.events.dead`, which only grows until somebody empties it: `retry`
after the cause is repaired, or `drop`. Each is a JSON object with the fields of DeadLetter, the
raw bytes in base64.
"""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from kombu.messaging import Producer

from bridge.errors import UndecodableMessage
from bridge.queue import broker
from bridge.queue.envelope import COUNT, FIRST_TIME, UNDECODABLE
from bridge.queue.events import load_json

__all__ = ["DeadLetter", "DeadLetters"]

MAX_LETTER_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that could not be used.

    raw: the message: the text of the event where its envelope was good, else the whole envelope.
    part: what `raw` is, `body` or `envelope`.
    error: why it could not be used.
    first_time, last_time: when it became a dead letter first and last, RFC 3339.
    count: how often it did; more than 1 after a retry that failed again.
    """

    raw: bytes
    part: str
    error: str
    first_time: str
    last_time: str
    count: int

    @classmethod
    def from_message(cls, message: Any, error: str) -> Self:
        """The dead letter that a Kombu message becomes now."""
        body, headers = message.body, message.headers
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        before = str(headers.get(COUNT, ""))
        why = headers.get(UNDECODABLE)
        return cls(
            raw=bytes(body or b""),
            part="body" if why is None else "envelope",
            error=error if why is None else why,
            first_time=headers.get(FIRST_TIME, now),
            last_time=now,
            count=1 + (int(before) if before.isdecimal() and len(before) < 10 else 0),
        )

    def to_json(self) -> str:
        """The text on the queue."""
        raw = base64.b64encode(self.raw).decode("ascii")
        return json.dumps(asdict(replace(self, raw=b"")) | {"raw": raw})

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Raises UndecodableMessage for a text that `to_json` did not write."""
        fields = load_json(text, MAX_LETTER_BYTES)
        try:
            return cls(**fields | {"raw": base64.b64decode(fields["raw"], validate=True)})
        except (TypeError, KeyError, ValueError) as error:
            raise UndecodableMessage(f"no dead letter: {error}") from None


class DeadLetters:
    """The queue of the dead letters, on the channel of somebody else's connection.

    Every method raises Kombu's errors when the broker is away.
    """

    def __init__(
        self,
        channel: Any,
        *,
        queue: str = broker.DEAD_QUEUE,
        events_queue: str = broker.EVENTS_QUEUE,
    ) -> None:
        self._channel, self._queue, self._events_queue = channel, queue, events_queue
        self._producer = Producer(channel)
        broker.declare(channel, queue)

    def put(self, letter: DeadLetter) -> None:
        """Keep `letter`."""
        self._publish(letter.to_json(), self._queue, {})

    def letters(self, limit: int = 100) -> list[DeadLetter]:
        """Up to `limit` dead letters, oldest first. They stay where they are.

        Where there are more than `limit`, the next call shows the next ones.
        """
        messages = list(self._take(limit))
        try:
            return [_letter(message) for message in messages]
        finally:
            for message in messages:
                message.requeue()

    def retry(self, limit: int = 1000) -> int:
        """Put up to `limit` events back on their queue; return how many.

        Letters whose envelope was bad stay: no retry makes an event of them.
        """
        done = 0
        for message in self._take(min(limit, len(self))):
            letter = _letter(message)
            if letter.part != "body":
                message.requeue()
                continue
            headers = {FIRST_TIME: letter.first_time, COUNT: str(letter.count)}
            self._publish(letter.raw, self._events_queue, headers)
            message.ack()
            done += 1
        return done

    def purge(self) -> int:
        """Throw all dead letters away; return how many."""
        return int(self._channel.queue_purge(self._queue))

    def __len__(self) -> int:
        return int(self._channel.queue_declare(self._queue, passive=False).message_count)

    def _take(self, limit: int) -> Iterator[Any]:
        for _ in range(limit):
            if (message := self._channel.basic_get(self._queue)) is None:
                return
            yield message

    def _publish(self, body: bytes | str, queue: str, headers: dict[str, str]) -> None:
        self._producer.publish(
            body,
            exchange="",
            routing_key=queue,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
        )


def _letter(message: Any) -> DeadLetter:
    try:
        return DeadLetter.from_json(message.body)
    except UndecodableMessage as error:
        # Somebody else's text on this queue is shown like the rest.
        return replace(DeadLetter.from_message(message, str(error)), part="envelope")
