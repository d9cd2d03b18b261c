"""A visitor sees their own edit: the signed cookie that says what they wrote, and the gate.

PHP gives the visitor who saved something a cookie with the entity and the version. Before
Python answers that visitor, the gate makes sure that the mirror holds this version: at once,
after a short wait, by a look at MongoDB's primary, or else legacy answers this one request.

Nothing here talks to a server or imports a driver: looking is `bridge.sync.probe`, which is
handed to the gate; waiting is done by whoever follows the change stream (`offer`).

The cookie `bv`, in characters that need no escape in a URL or a cookie:

    token     = "1~" key-id "~" entry *7("~" entry) "~" signature
    entry     = entity "." key "." version "." time
    key       = the key's UTF-8 in base64url without "="
    time      = Unix seconds, when the entry was written
    signature = HMAC-SHA256 of all before its "~", in base64url without "="

At most 3,500 bytes and 8 entries, the newest first, one for each entity and key. An entry
counts for 30 s, and for 30 s more on both sides because clocks differ. A token that is forged,
broken, or signed with an unknown key is no error: it asks for nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextvars
import hashlib
import hmac
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from bridge.entity import ENTITY
from bridge.errors import ServerAway

__all__ = [
    "COOKIE",
    "LIFETIME",
    "MAX_BYTES",
    "MAX_ENTRIES",
    "OUTCOMES",
    "PATIENCE",
    "SETTLING",
    "SKEW",
    "Entry",
    "Gate",
    "Keys",
    "Outcome",
    "Wanted",
    "Watch",
    "offer",
    "offered",
    "wanted",
]

COOKIE: Final = "bv"
LIFETIME: Final = 30
"""Seconds that an entry counts."""
SKEW: Final = 30
"""Seconds by which the clocks of PHP's and Python's machines may differ."""
MAX_ENTRIES: Final = 8
MAX_BYTES: Final = 3500
"""The longest token; browsers take cookies of 4,096 bytes with name and attributes."""
PATIENCE: Final = 0.1
"""Seconds that a request waits for the mirror to catch up."""
SETTLING: Final = 3.0
"""Seconds after which every process has heard of a write (the cache's bound is 2 s) and the
cookie may be ended: another process could still show the old version to a visitor without it."""

Outcome = Literal["at_once", "waited", "primary", "legacy"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("at_once", "waited", "primary", "legacy")
"""How the mirror had what a visitor wrote, the best first."""

_ENTRY = re.compile(
    rf"({ENTITY.pattern})\.([A-Za-z0-9_-]{{2,1366}}|)\.(0|[1-9][0-9]{{0,18}})\.([0-9]{{1,11}})"
)
_TOKEN = re.compile(r"1~([a-z0-9]{1,16})~([A-Za-z0-9_.~-]+)~([A-Za-z0-9_-]{43})")
_MAX_KEY_BYTES = 1024
_MAX_VERSION = 2**63 - 1
_MAX_COOKIES = 4  # of one name that a request may bring; others than ours may have set some
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.02  # seconds between two looks at the primary


@dataclass(frozen=True, slots=True)
class Entry:
    """What a visitor wrote: this entity in this version, at `time` in Unix seconds."""

    entity: str
    key: str
    version: int
    time: int

    def __str__(self) -> str:
        key = base64.urlsafe_b64encode(self.key.encode()).rstrip(b"=").decode()
        return f"{self.entity}.{key}.{self.version}.{self.time}"


class Keys:
    """The keys that tokens are signed with: all of them verify, the first one signs.

    pairs: (id, secret), as `Settings.freshness_keys` has them.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._secrets = {name: secret.encode() for name, secret in pairs}
        self._first = pairs[0][0] if pairs else ""

    def __repr__(self) -> str:
        return f"<Keys: {', '.join(self._secrets) or 'none'}>"

    def sign(self, entries: Iterable[Entry]) -> str:
        """The token of the newest of `entries` that fit; empty without entries or keys."""
        kept = _newest(entries)
        while kept and self._first:
            text = "~".join(["1", self._first, *map(str, kept)])
            if len(text) + 44 <= MAX_BYTES:
                return f"{text}~{_signature(self._secrets[self._first], text)}"
            kept.pop()
        return ""

    def verify(self, token: object, now: float) -> tuple[Entry, ...]:
        """The entries of `token` that count at `now` (Unix seconds), newest first.

        Never raises: what is not a sound token of ours has none.
        """
        if not isinstance(token, str) or len(token) > MAX_BYTES:
            return ()
        if (found := _TOKEN.fullmatch(token)) is None:
            return ()
        name, written, signature = found.groups()
        secret = self._secrets.get(name)
        if secret is None or not hmac.compare_digest(
            _signature(secret, token[: -1 - len(signature)]), signature
        ):
            return ()
        texts = written.split("~")
        if len(texts) > MAX_ENTRIES:
            return ()
        entries = [_entry(text) for text in texts]
        return tuple(
            _newest(
                e for e in entries if e is not None and -SKEW <= now - e.time <= LIFETIME + SKEW
            )
        )


def _signature(secret: bytes, text: str) -> str:
    digest = hmac.digest(secret, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _entry(text: str) -> Entry | None:
    if (found := _ENTRY.fullmatch(text)) is None:
        return None
    entity, key, version, moment = found.groups()
    try:
        raw = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
        entry = Entry(entity, raw.decode(), int(version), int(moment))
    except (binascii.Error, ValueError):
        return None
    sound = len(raw) <= _MAX_KEY_BYTES and entry.version <= _MAX_VERSION
    return entry if sound and str(entry).split(".")[1] == key else None


def _newest(entries: Iterable[Entry]) -> list[Entry]:
    """At most MAX_ENTRIES, one for each entity and key (the highest version), newest first."""
    best: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        old = best.get((entry.entity, entry.key))
        if old is None or (entry.version, entry.time) > (old.version, old.time):
            best[entry.entity, entry.key] = entry
    return sorted(best.values(), key=lambda entry: -entry.time)[:MAX_ENTRIES]


class Wanted:
    """What one visitor's cookie asks for, and how each of it was had; one for each request.

    Used by the request's thread and its handler's. Store asks `version` or `of` for what a
    handler reads, and says `note` when it has it.
    """

    __slots__ = ("_how", "_lock", "_versions", "entries")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self._versions: dict[str, dict[str, int]] = {}
        for entry in entries:
            self._versions.setdefault(entry.entity, {})[entry.key] = entry.version
        self._how: dict[tuple[str, str], Outcome] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Wanted: {len(self._how)} of {len(self.entries)} looked at>"

    def version(self, entity: str, key: str) -> int | None:
        """The version of this one that the visitor must see at least, or None."""
        versions = self._versions.get(entity)
        return None if versions is None else versions.get(key)

    def of(self, entity: str) -> Mapping[str, int]:
        """Key to version: all that is wanted of one kind of entity."""
        return self._versions.get(entity, {})

    def note(self, entity: str, key: str, how: Outcome) -> None:
        """Say how a wanted entry was had, or that it was not (`legacy`). The first look counts:
        the second one always finds it at once."""
        with self._lock:
            if how == "legacy":
                self._how[entity, key] = how
            else:
                self._how.setdefault((entity, key), how)

    @property
    def refused(self) -> bool:
        """Whether something could not be had, so that legacy must answer."""
        return "legacy" in self._how.values()

    def settled(self, now: float) -> bool:
        """Whether the visitor needs the cookie no longer: all of it was had for this answer,
        and was written long enough ago (SETTLING) for every process to have heard of it."""
        had = not self.refused and all((e.entity, e.key) in self._how for e in self.entries)
        return had and all(now - entry.time >= SETTLING for entry in self.entries)

    @property
    def outcome(self) -> Outcome | None:
        """How all that was looked at was had: as the last of it. None when nothing was."""
        return max(tuple(self._how.values()), key=OUTCOMES.index, default=None)

    def context(self) -> contextvars.Context:
        """A fresh context in which `wanted` is this; to run a handler in."""
        context = contextvars.Context()
        context.run(wanted.set, self)
        return context


wanted: ContextVar[Wanted | None] = ContextVar("bridge_wanted", default=None)
"""What the visitor wants to see whose request the handler of this context answers."""


class Watch(Protocol):
    """Whoever hears of writes to the mirror as they happen: Store's follower."""

    def knows(self, entity: str, key: str) -> int | None:
        """The highest version that a majority is known to hold, or None: nothing is known."""

    def wait(self, entity: str, key: str, version: int, seconds: float) -> bool:
        """Wait until a version, or a newer one, is known; False when it is not within `seconds`.

        entity, key, version: as in an `Entry`.
        """


_offered: weakref.ref[Watch] | None = None


def offer(watch: Watch) -> None:
    """Let every gate of this process wait by `watch` instead of asking MongoDB again and again.

    It is not kept alive. The last one counts; a forked process must offer its own.
    """
    global _offered
    _offered = weakref.ref(watch)


def offered() -> Watch | None:
    """The watch of this process, if there is one."""
    return _offered() if _offered is not None else None


Look = Callable[[Sequence[Entry]], Collection[Entry]]
"""Which of these entries does a majority of MongoDB hold, in that version or a newer one? Raises
ServerAway."""


class Gate:
    """Ensures before a handler runs that what it reads is as new as its visitor's own edits.

    entities: what sync.yaml mirrors, and the children of each; other entries are ignored.
    watch: the watch to wait by, or None; then the primary is asked again and again.
    patience: the longest wait in seconds.
    """

    cookie: str = COOKIE

    def __init__(
        self,
        keys: Keys,
        look: Look,
        entities: Mapping[str, Collection[str]],
        *,
        watch: Callable[[], Watch | None] = offered,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._look, self._entities = keys, look, entities
        self._watch, self._patience, self._clock = watch, patience, clock

    def wanted(self, cookies: Iterable[str]) -> Wanted | None:
        """What the values of the visitor's cookies `bv` ask for, or None for nothing."""
        now = self._clock()
        found: list[Entry] = []
        for _, value in zip(range(_MAX_COOKIES), cookies, strict=False):
            found += self._keys.verify(value, now)
        entries = _newest(entry for entry in found if entry.entity in self._entities)
        return Wanted(entries) if entries else None

    def ensure(self, wanted: Wanted, reads: Collection[str]) -> bool:
        """Whether the mirror holds all that is wanted of the entities `reads`, or of parents of
        theirs. It is noted in `wanted`, how. Takes `patience` and one look at most."""
        missing = [entry for entry in wanted.entries if self._concerns(entry, reads)]
        deadline = time.monotonic() + self._patience
        try:
            watch = self._watch()
            if watch is not None:
                missing = self._by_watch(watch, wanted, missing, reads, deadline)
            if missing:
                self._by_looking(wanted, missing, deadline)
        except ServerAway:
            for entry in missing:
                wanted.note(entry.entity, entry.key, "legacy")
        return not wanted.refused

    def _concerns(self, entry: Entry, reads: Collection[str]) -> bool:
        return entry.entity in reads or self._read_children(entry, reads)

    def _read_children(self, entry: Entry, reads: Collection[str]) -> bool:
        return any(child in reads for child in self._entities.get(entry.entity, ()))

    def _by_watch(
        self,
        watch: Watch,
        wanted: Wanted,
        entries: Sequence[Entry],
        reads: Collection[str],
        deadline: float,
    ) -> list[Entry]:
        """What is left for looking, which the watch cannot tell.

        The primary is asked before waiting: a watch that began after the write would never hear
        of it.
        """
        # Of one transaction the stream tells the parent first: its children may be unheard of.
        left = [entry for entry in entries if self._read_children(entry, reads)]
        unknown: list[Entry] = []
        for entry in entries:
            if entry in left:
                continue
            known = watch.knows(entry.entity, entry.key)
            if known is not None and known >= entry.version:
                wanted.note(entry.entity, entry.key, "at_once")
            else:
                unknown.append(entry)
        if not unknown:
            return left
        late = self._noted(wanted, unknown, self._look(unknown), "primary")
        unheard: list[Entry] = []
        for entry in late:
            seconds = deadline - time.monotonic()
            if seconds > 0 and watch.wait(entry.entity, entry.key, entry.version, seconds):
                wanted.note(entry.entity, entry.key, "waited")
            else:
                unheard.append(entry)
        if unheard:
            for entry in self._noted(wanted, unheard, self._look(unheard), "primary"):
                wanted.note(entry.entity, entry.key, "legacy")
        return left

    def _by_looking(
        self,
        wanted: Wanted,
        entries: Sequence[Entry],
        deadline: float,
    ) -> None:
        missing = self._noted(wanted, entries, self._look(entries), "at_once")
        pause = _FIRST_PAUSE
        while missing and (seconds := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, seconds))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            missing = self._noted(wanted, missing, self._look(missing), "waited")
        for entry in missing:
            wanted.note(entry.entity, entry.key, "legacy")

    @staticmethod
    def _noted(
        wanted: Wanted, entries: Sequence[Entry], found: Collection[Entry], how: Outcome
    ) -> list[Entry]:
        """Note what was found; return the rest."""
        for entry in entries:
            if entry in found:
                wanted.note(entry.entity, entry.key, how)
        return [entry for entry in entries if entry not in found]
