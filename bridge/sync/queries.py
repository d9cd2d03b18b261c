"""Which questions `Store.find` may ask: only those that an index of sync.yaml answers.

Pure. A page that scans a collection works with the first hundred documents and takes the site
down with the first million, so a question without an index is an error that says what to declare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import BridgeError

__all__ = ["MOST", "Query", "query"]

MOST = 10_000
"""Documents of one answer at most."""

RANGES = frozenset({"$gt", "$gte", "$lt", "$lte"})

Keys = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Query:
    """What MongoDB is asked: filter, order, and the fields that come, None for all. index: the
    one that answers it. Left to choose, MongoDB tries all that fit, and with a time limit on a
    deep page it may never come to an end of trying."""

    filter: dict[str, Any]
    sort: list[tuple[str, int]]
    index: list[tuple[str, int]]
    projection: dict[str, int] | None
    skip: int
    limit: int


def query(
    entity: str,
    indexes: Sequence[Keys],
    where: Mapping[str, Any],
    sort: Sequence[str],
    skip: int,
    limit: int,
    fields: Sequence[str],
) -> Query:
    """The query, if an index answers it.

    indexes: besides that of `_id`.
    where, sort, skip, limit, fields: as for `Store.find`.

    Raises BridgeError: for a question that none answers, it says which index would.
    """
    if not 1 <= limit <= MOST:
        raise BridgeError(f"find({entity!r}): limit is {limit}; it must be 1 to {MOST}")
    if skip < 0:
        raise BridgeError(f"find({entity!r}): skip is {skip}; it cannot be below zero")
    kinds = {field: _kind(entity, field, condition) for field, condition in where.items()}
    order = [(name.removeprefix("-"), -1 if name[:1] == "-" else 1) for name in sort]
    candidates: list[Keys] = [[("_id", 1)], *indexes]
    index = next((keys for keys in candidates if _serves(keys, kinds, order)), None)
    if index is None:
        raise BridgeError(
            f"find({entity!r}): no index answers this (where: {', '.join(where) or 'nothing'}; "
            f"sort: {', '.join(sort) or 'none'}). Declare it in sync.yaml under "
            f"entities.{entity}.indexes: [{', '.join(_wish(kinds, order))}], and run "
            "`bridgectl sync init`"
        )
    return Query(
        filter=dict(where) if _no_tombstones(where) else {**where, "_del": {"$ne": True}},
        sort=order,
        index=list(index),
        projection=dict.fromkeys(("_id", "_v", "_del", *fields), 1) if fields else None,
        skip=skip,
        limit=limit,
    )


def _kind(entity: str, field: str, condition: Any) -> str:
    """equal, in or range."""
    if not isinstance(condition, Mapping):
        return "equal"
    operators = set(condition)
    if operators == {"$in"} and isinstance(condition["$in"], list | tuple):
        return "in"
    if operators and operators <= RANGES:
        return "range"
    raise BridgeError(
        f"find({entity!r}): {field} is asked for by {', '.join(map(str, condition)) or 'nothing'}; "
        "find takes a value, $in with a list, or a range ($gt, $gte, $lt, $lte)"
    )


def _no_tombstones(where: Mapping[str, Any]) -> bool:
    """Whether a condition is on a field that tombstones do not have, and none of null, which
    matches what is not there. Without `_del` in it, MongoDB skips to a deep page in the index
    and fetches none of the documents before it."""
    return any(
        None not in _values(condition) for field, condition in where.items() if field[:1] != "_"
    )


def _values(condition: Any) -> Sequence[Any]:
    if not isinstance(condition, Mapping):
        return [condition]
    return list(condition["$in"] if "$in" in condition else condition.values())


def _serves(keys: Keys, kinds: Mapping[str, str], order: Keys) -> bool:
    """Whether the conditions are on the leading fields, and what follows those that have one
    value is in the order asked for."""
    names = [name for name, _ in keys]
    depth = 0
    while depth < len(names) and kinds.get(names[depth]) in ("equal", "in"):
        depth += 1
    asked = depth + (depth < len(names) and kinds.get(names[depth]) == "range")
    if len(kinds) != asked:
        return False
    fixed = {name for name, kind in kinds.items() if kind == "equal"}
    # What has one value has any order; what may have several has only its own.
    rest = [part for part in order if part[0] not in fixed]
    served = [part for part in keys if part[0] not in fixed][: len(rest)]
    turned = [(name, -direction) for name, direction in served]
    return rest in (served, turned)


def _wish(kinds: Mapping[str, str], order: Keys) -> list[str]:
    """The index to declare: one value first, then the order, then what may have several."""
    equal = [name for name, kind in kinds.items() if kind == "equal"]
    ordered = [("-" if way == -1 else "") + name for name, way in order if name not in equal]
    named = {*equal, *(name.removeprefix("-") for name in ordered)}
    return equal + ordered + [name for name in kinds if name not in named]
