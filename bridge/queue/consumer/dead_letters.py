"""Dead letters: messages that nobody could use, kept whole until a person decides.

They are on the queue `bridge.events.dead` for 30 days, each a JSON object with the fields of
DeadLetter, the raw bytes in base64. `retry` puts an event back on its queue, from where it takes
the same way as any other: a newer version that was written meanwhile stays.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Self, TypeGuard

from bridge.errors import UndecodableMessage
from bridge.queue.broker.broker import DEAD_QUEUE, DEAD_SECONDS, EVENTS_QUEUE, Broker, Shelf
from bridge.queue.events import SEQUENCE, load_json
from bridge.queue.streams.entry import why_undecodable
from bridge.units import in_portions

__all__ = ["DeadLetter", "DeadLetters", "Filter", "identity_of"]

FIRST_TIME = "bridge-first-time"
"""Header of a retried dead letter: when it first became one."""
COUNT = "bridge-count"
"""Header of a retried dead letter: how often it became one, in decimal digits."""
ID = "bridge-letter"
"""Header of a retried dead letter: its id, which it keeps."""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,9}")
STATE = b',"datacontenttype":"application/json","data":'
MAX_LETTER_BYTES = 1024 * 1024 * 1024
LETTERS_PER_STEP = 100
TRIM_EVERY = 3600.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that could not be used.

    id: names it for the operator. raw: the message: the text of the event where its envelope was
    good, else all there was. part: what `raw` is: `body`, `envelope`, or `row` for a row of a SQL
    queue as JSON. error: why it could not
    be used. first_time, last_time: when it became a dead letter first and last, RFC 3339.
    count: how often it did; more than 1 after a retry that failed again. entity, key, version:
    what it is about, as far as that can be read; empty where not.
    """

    id: str
    raw: bytes
    part: str
    error: str
    first_time: str
    last_time: str
    count: int
    entity: str = ""
    key: str = ""
    version: str = ""

    @classmethod
    def of(cls, raw: bytes, error: str, part: str = "body") -> Self:
        """The letter that these bytes become now, for the first time."""
        now = _now()
        entity, key, version = identity_of(raw)
        name = secrets.token_hex(6)
        return cls(name, raw, part, error, now, now, 1, entity, key, version)

    @classmethod
    def from_message(cls, message: Any, error: str) -> Self:
        """The letter that a Kombu message becomes now."""
        body, headers = message.body, message.headers
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        letter = cls.of(bytes(body or b""), error)
        if why := why_undecodable(message):
            letter = replace(letter, part="envelope", error=why, entity="", key="", version="")
        # Ours, after a retry; or whatever somebody else has sent under these names.
        name, first, before = (headers.get(header) for header in (ID, FIRST_TIME, COUNT))
        return replace(
            letter,
            id=name if _fits(name, _ID) else letter.id,
            first_time=first if _fits(first, _TIME) else letter.first_time,
            count=1 + (int(before) if _fits(before, _COUNT) else 0),
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
            letter = cls(**fields | {"raw": base64.b64decode(fields["raw"], validate=True)})
        except (TypeError, KeyError, ValueError) as error:
            raise UndecodableMessage(f"no dead letter: {str(error)[:200]}") from None
        texts = (letter.part, letter.error, letter.entity, letter.key, letter.version)
        good = all(isinstance(one, str) for one in texts) and type(letter.count) is int
        times = _fits(letter.first_time, _TIME) and _fits(letter.last_time, _TIME)
        if not good or not times or not _fits(letter.id, _ID):
            raise UndecodableMessage("no dead letter: one of its fields is nothing that we write")
        return letter

    def row(self) -> tuple[str, str, int] | None:
        """Entity, key and version of the row that an outbox may have for it; None where what it
        says of them is nothing that a row can have."""
        if not self.entity or not SEQUENCE.fullmatch(self.version):
            return None
        return self.entity, self.key, int(self.version)


def _fits(value: object, pattern: re.Pattern[str]) -> TypeGuard[str]:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def identity_of(raw: bytes) -> tuple[str, str, str]:
    """Entity, key and version in the text of an event, however wrong the rest of it is; each
    empty where it is not there."""
    found = None
    # The relay writes the state behind everything else: it may be what is wrong.
    for text in (raw, raw.partition(STATE)[0] + b"}"):
        try:
            found = json.loads(text)
            break
        except (ValueError, RecursionError):
            continue
    if not isinstance(found, dict):
        return "", "", ""
    kind, key, version = (found.get(name) for name in ("type", "subject", "sequence"))
    return (
        str(kind).rpartition(".")[0] if isinstance(kind, str) else "",
        key if isinstance(key, str) else "",
        version if isinstance(version, str) else "",
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; what is empty means any.

    ids: any of these. error: a part of the text of the error, in any case. since, before: the
    last time, RFC 3339 in UTC, inclusive and exclusive.
    """

    ids: frozenset[str] = frozenset()
    entity: str = ""
    key: str = ""
    error: str = ""
    since: str = ""
    before: str = ""

    def fits(self, letter: DeadLetter) -> bool:
        """Whether this letter is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.entity in ("", letter.entity)
            and self.key in ("", letter.key)
            and self.error.casefold() in letter.error.casefold()
            and (not self.since or letter.last_time >= self.since)
            and (not self.before or letter.last_time < self.before)
        )


ALL = Filter()


class DeadLetters:
    """The queue of the dead letters, over somebody else's connection.

    Every method raises the broker's `errors` when it is away.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        queue: str = DEAD_QUEUE,
        events_queue: str = EVENTS_QUEUE,
    ) -> None:
        self._broker, self._queue, self._events_queue = broker, queue, events_queue
        self._trim_at = 0.0
        broker.declare(queue)

    def put(self, letter: DeadLetter) -> None:
        """Keep `letter`."""
        if time.monotonic() > self._trim_at:
            self._broker.trim(self._queue, DEAD_SECONDS)
            self._trim_at = time.monotonic() + TRIM_EVERY
        self._broker.publish(self._queue, [letter.to_json()])

    def letters(self, which: Filter = ALL, limit: int | None = 100) -> list[DeadLetter]:
        """Up to `limit` dead letters, oldest first. They stay where they are."""
        with self._broker.browse(self._queue) as shelf:
            found = [letter for _, letter in islice(_matching(shelf, which), limit)]
        # RabbitMQ gives what a killed browser had taken back in any order.
        return sorted(found, key=lambda letter: letter.last_time)

    def retry(
        self, which: Filter = ALL, progress: Callable[[int], None] = lambda done: None
    ) -> tuple[int, int]:
        """Put events back on their queue; return how many, and how many letters were left
        because they are no event and no retry makes one of them."""
        done = left = 0
        with self._broker.browse(self._queue) as shelf:
            # First all that are there now: one that fails again must not be met again.
            for some in in_portions(list(_matching(shelf, which)), LETTERS_PER_STEP):
                for place, letter in some:
                    if letter.part != "body":
                        left += 1
                        continue
                    headers = {
                        ID: letter.id,
                        FIRST_TIME: letter.first_time,
                        COUNT: str(letter.count),
                    }
                    self._broker.publish(self._events_queue, [letter.raw], headers)
                    shelf.remove([place])
                    done += 1
                progress(done + left)
        return done, left

    def drop(self, which: Filter = ALL) -> list[DeadLetter]:
        """Throw dead letters away for good; return them."""
        dropped: list[DeadLetter] = []
        with self._broker.browse(self._queue) as shelf:
            for some in in_portions(list(_matching(shelf, which)), LETTERS_PER_STEP):
                shelf.remove([place for place, _ in some])
                dropped += [letter for _, letter in some]
        return dropped

    def __len__(self) -> int:
        return self._broker.length(self._queue)


def _matching(shelf: Shelf, which: Filter) -> Iterator[tuple[Any, DeadLetter]]:
    for place, message in shelf:
        letter = _letter(message)
        if which.fits(letter):
            yield place, letter


def _letter(message: Any) -> DeadLetter:
    try:
        return DeadLetter.from_json(message.body)
    except UndecodableMessage as error:
        # Somebody else's text on this queue is shown like the rest, under a name that stays.
        letter = DeadLetter.from_message(message, str(error))
        name = hashlib.sha256(letter.raw).hexdigest()[:12]
        return replace(letter, part="envelope", id=name)
