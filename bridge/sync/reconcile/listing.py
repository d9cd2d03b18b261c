"""Differences as they are told: of keys, of what has no key, and of numbers without one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridge.sync.checksums import NO_VERSION
from bridge.sync.doubts import KINDS, Doubt, KeyState
from bridge.sync.reconcile.account import Account
from bridge.sync.reconcile.findings import Difference, ReconcileResult
from bridge.sync.reconcile.mirrored import Foreign
from bridge.sync.reconcile.sides import KeySnapshot

__all__ = [
    "bucket",
    "foreign_documents",
    "listed",
    "nameless_rows",
    "not_adding_up",
    "odd",
    "unfound",
]

ASK_AGAIN = "ask again; if it stays, look at the definition of the table and at its indexes"


def listed(
    doubts: Mapping[str, Doubt], looks: Mapping[str, KeySnapshot], *, values: bool
) -> Iterator[Difference]:
    """What is left, kind by kind and in the order of the keys. values: with those that differ."""
    kinds = list(KINDS)
    for key, doubt in sorted(doubts.items(), key=lambda item: (kinds.index(item[1].kind), item[0])):
        seen = looks[key]
        pair = seen.pair
        yield Difference(
            key,
            doubt.kind,
            _version(pair.sql),
            _version(pair.mongodb),
            seen.detail,
            pair.rows if doubt.kind == "duplicate" else 1,
            tuple(gap.values for gap in seen.gaps) if values else (),
        )


def _version(state: KeyState | None) -> int | None:
    return None if state is None or state.version <= NO_VERSION else state.version


def nameless_rows(count: int) -> Iterator[Difference]:
    """Rows without a key."""
    if count:
        text = f"{count:,} rows have NULL in a column of the key"
        yield Difference("", "nameless", detail=text, count=count)


def foreign_documents(foreign: Foreign) -> Iterator[Difference]:
    """Documents without a key: the first ones by name."""
    text = "its _id is no text of UTF-8, so it is not the mirror's: delete it by hand"
    for id in foreign.ids:
        yield Difference(repr(id), "foreign", detail=text)
    if more := foreign.count - len(foreign.ids):
        yield Difference("", "foreign", detail=f"{more:,} more of this kind", count=more)


def odd(key: str) -> Difference:
    """A row whose key the database counts under another text."""
    text = (
        "the database writes this key otherwise than the bridge does, so that its sums say nothing "
        "of the row"
    )
    return Difference(key, "unexplained", detail=text)


def unfound(key: str, account: Account, unlookable: str) -> Difference:
    """A key that is listed, and then is not found by it."""
    entry = account.entries[key]
    count = max(len(entry.rows), 1)
    in_sql = entry.rows[0] if entry.rows and entry.rows[0] > NO_VERSION else None
    if why := account.wrong.get(key):
        return Difference(key, "unusable", in_sql, entry.document, why, count)
    if unlookable:
        return Difference(key, "unlookable", in_sql, entry.document, unlookable, count)
    side = "SQL" if entry.rows else "MongoDB"
    text = f"{side} lists this key and does not find it when it is asked for it: {ASK_AGAIN}"
    return Difference(key, "unexplained", in_sql, entry.document, text, count)


def bucket(number: int, account: Account) -> Difference:
    """A bucket whose numbers no key explains."""
    rows, documents = account.rows.counts[number], account.documents.counts[number]
    text = (
        f"in bucket {number:03x} the sums are of {rows:,} rows and {documents:,} documents, and "
        f"the keys of both sides do not explain how they differ: {ASK_AGAIN}"
    )
    return Difference("", "unexplained", detail=text, count=max(1, abs(account.missed(number))))


def not_adding_up(result: ReconcileResult) -> Difference:
    """Numbers that contradict each other although nothing else was found."""
    text = (
        f"there are {result.rows:,} rows and {result.documents:,} documents, and the keys that "
        f"were looked at explain {result.explained:,} of the difference: {ASK_AGAIN}"
    )
    count = abs(result.rows - result.documents - result.explained)
    return Difference("", "unexplained", detail=text, count=count)
