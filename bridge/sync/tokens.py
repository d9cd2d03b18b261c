"""What a visitor's cookie says of what they wrote: the signed token `bv`. Pure.

PHP writes entities with their versions into it (`php/BridgeProducer.php`), the bridge where the
database's log ended when PHP had answered. What both ask of the mirror is
`bridge.sync.freshness`'s.

In characters that need no escape in a URL or a cookie:

    token     = "1~" key-id "~" entry *7("~" entry) "~" signature
    entry     = entity "." key "." version "." time
              / "_." log-end "." time
    key       = the key's UTF-8 in base64url without "="
    log-end   = the last transaction of the database's log, `0-1-42`, or `UUID_42` of MySQL;
                "x" where the database did not say it in time
    time      = Unix seconds, when the entry was written
    signature = HMAC-SHA256 of all before its "~", in base64url without "="

At most 3,500 bytes and 8 entries, the newest first, one for each entity and key, and one end of
the log. An entry counts for 30 s, and for 30 s more on both sides because clocks differ. Entries
that a reader does not know it leaves out: no entity begins with `_`. A token that is forged,
broken, or signed with an unknown key is no error: it asks for nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bridge.entity import ENTITY
from bridge.errors import BridgeError
from bridge.sync.gtid import Gtid

__all__ = [
    "COOKIE",
    "LIFETIME",
    "MAX_BYTES",
    "MAX_ENTRIES",
    "SKEW",
    "Entry",
    "Keys",
    "LogEnd",
    "Token",
    "latest",
    "newest",
]

COOKIE: Final = "bv"
LIFETIME: Final = 30
"""Seconds that an entry counts."""
SKEW: Final = 30
"""Seconds by which the clocks of PHP's and Python's machines may differ."""
MAX_ENTRIES: Final = 8
MAX_BYTES: Final = 3500
"""The longest token; browsers take cookies of 4,096 bytes with name and attributes."""

# 1,366 characters of base64 are 1,024 bytes, the longest key.
_ENTRY = re.compile(
    rf"({ENTITY.pattern})\.([A-Za-z0-9_-]{{2,1366}}|)\.(0|[1-9][0-9]{{0,18}})\.([0-9]{{1,11}})"
)
_END = re.compile(r"_\.(x|[a-f0-9_-]{5,64})\.([0-9]{1,11})")
_TOKEN = re.compile(r"(1~([a-z0-9]{1,16})~([A-Za-z0-9_.~-]+))~([A-Za-z0-9_-]{43})")
_MAX_COOKIES = 4  # of one name that a request may bring; others than ours may have set some
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What a visitor wrote: this entity in this version, at `time` in Unix seconds."""

    entity: str
    key: str
    version: int
    time: int

    def __str__(self) -> str:
        return f"{self.entity}.{_in_base64(self.key)}.{self.version}.{self.time}"


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What a visitor wrote is in the database's log no later than this transaction, which was its
    last one at `time` in Unix seconds. gtid: None where nobody knows which one that was."""

    gtid: Gtid | None
    time: int

    def __str__(self) -> str:
        name = "x" if self.gtid is None else str(self.gtid).replace(":", "_")
        return f"_.{name}.{self.time}"


class Token(NamedTuple):
    """What counts of a cookie: entries, the newest first, and an end of the log."""

    entries: tuple[Entry, ...] = ()
    end: LogEnd | None = None


class Keys:
    """The keys that tokens are signed with: all of them verify, the first one signs.

    pairs: (id, secret), as `Settings.freshness_keys` has them.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._secrets = {name: secret.encode() for name, secret in pairs}
        self._first = pairs[0][0] if pairs else ""

    def __repr__(self) -> str:
        return f"<Keys: {', '.join(self._secrets) or 'none'}>"

    def sign(self, entries: Iterable[Entry], end: LogEnd | None = None) -> str:
        """The token of `end` and the newest of `entries` that fit; empty without either, and
        without keys."""
        kept = list(map(str, newest(entries)))
        if end is not None:
            kept = [str(end), *kept[: MAX_ENTRIES - 1]]
        while kept and self._first:
            text = "~".join(["1", self._first, *kept])
            if len(text) + 44 <= MAX_BYTES:
                return f"{text}~{_signature(self._secrets[self._first], text)}"
            kept.pop()
        return ""

    def verify(self, token: object, now: float) -> tuple[Entry, ...]:
        """The entries of `read`."""
        return self.read(token, now).entries

    def read(self, token: object, now: float) -> Token:
        """What of `token` counts at `now` (Unix seconds).

        Never raises: what is not a sound token of ours has nothing.
        """
        if not isinstance(token, str) or len(token) > MAX_BYTES:
            return Token()
        if (found := _TOKEN.fullmatch(token)) is None:
            return Token()
        text, name, written, signature = found.groups()
        secret = self._secrets.get(name)
        if secret is None or not hmac.compare_digest(_signature(secret, text), signature):
            return Token()
        texts = written.split("~")
        if len(texts) > MAX_ENTRIES:
            return Token()
        entries = [e for e in map(_entry, texts) if e is not None and _counts(e.time, now)]
        ends = [e for e in map(_end, texts) if e is not None and _counts(e.time, now)]
        return Token(tuple(newest(entries)), latest(ends))

    def read_all(self, tokens: Iterable[object], now: float) -> Token:
        """What several cookies of the name say together, of which one visitor has all."""
        found = [self.read(one, now) for _, one in zip(range(_MAX_COOKIES), tokens, strict=False)]
        entries = (entry for one in found for entry in one.entries)
        return Token(tuple(entries), latest(one.end for one in found if one.end))


def newest(entries: Iterable[Entry]) -> list[Entry]:
    """At most MAX_ENTRIES, one for each entity and key (the highest version), newest first."""
    best: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        row = entry.entity, entry.key
        best[row] = max(best.get(row, entry), entry, key=lambda one: (one.version, one.time))
    return sorted(best.values(), key=lambda entry: -entry.time)[:MAX_ENTRIES]


def latest(ends: Iterable[LogEnd]) -> LogEnd | None:
    """The one that includes the others: one that nobody knows, where there is such. The order of
    the log counts and not that of clocks; of two logs, of which a mirror follows one, the one that
    was written to later."""
    best: dict[str, LogEnd] = {}
    for end in ends:
        domain = end.gtid.domain if end.gtid else ""
        best[domain] = max(best.get(domain, end), end, key=_place)
    if "" in best:
        return best[""]
    known = (best[domain] for domain in sorted(best, reverse=True))
    return max(known, key=lambda end: end.time, default=None)


def _place(end: LogEnd) -> tuple[int, ...]:
    """Where it is among those of its log, or of those that nobody knows."""
    return (end.gtid.sequence, end.time) if end.gtid else (end.time,)


def _counts(moment: int, now: float) -> bool:
    return -SKEW <= now - moment <= LIFETIME + SKEW


def _signature(secret: bytes, text: str) -> str:
    digest = hmac.digest(secret, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _in_base64(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def _entry(text: str) -> Entry | None:
    if (found := _ENTRY.fullmatch(text)) is None:
        return None
    entity, key, version, moment = found.groups()
    try:
        raw = base64.urlsafe_b64decode(f"{key}==")  # more of them than it needs are no error
        entry = Entry(entity, raw.decode(), int(version), int(moment))
    except (binascii.Error, ValueError):
        return None
    return entry if entry.version <= _MAX_VERSION and _in_base64(entry.key) == key else None


def _end(text: str) -> LogEnd | None:
    if (found := _END.fullmatch(text)) is None:
        return None
    name, moment = found[1], int(found[2])
    if name == "x":
        return LogEnd(None, moment)
    try:
        return LogEnd(Gtid.parse(name.replace("_", ":")), moment)
    except BridgeError:
        return None
