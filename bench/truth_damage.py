"""What a damage of `bench.truth` is, and whether what `reconcile` says of it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.sync.reconcile.findings import ReconcileResult

__all__ = ["Damage", "Found", "mistakes", "named"]

Found = dict[str, Any]
"""What must be found: by key, the kinds that it can be; under the empty key, how many there are of
the kinds that name no key."""

SIZES = (1, 3, 24)


@dataclass(frozen=True)
class Damage:
    """One way to make both sides differ.

    do: is given a scene and keys of the living, of which there are as many as a size says; gives
    what must be found, None where this does nothing to such keys. sizes: how many keys. shapes:
    which it is for, all where none is named. repairable: whether `--repair` must be able to mend
    it. elsewhere: another entity that must not be equal, either.
    """

    name: str
    do: Callable[[Any, Sequence[str]], Found | None]
    sizes: tuple[int, ...] = SIZES
    shapes: tuple[str, ...] = ()
    repairable: bool = field(default=False, kw_only=True)
    elsewhere: str = field(default="", kw_only=True)


def named(keys: Iterable[str], *kinds: str) -> Found:
    """These keys, each as one of these kinds."""
    return {key: set(kinds) for key in keys}


def mistakes(expected: Found, result: ReconcileResult) -> tuple[list[str], list[str]]:
    """What was missed, and what was found that is not there."""
    missed: list[str] = []
    false: list[str] = []
    counts = expected.get("", {}) if isinstance(expected.get(""), dict) else {}
    keys = {key: kinds for key, kinds in expected.items() if isinstance(kinds, set)}
    if result.equal is not (not expected):
        (missed if expected else false).append(f"equal is {result.equal}")
    told: dict[str, set[str]] = {}
    for one in result.differences:
        if one.kind not in counts:
            told.setdefault(one.key, set()).add(one.kind)
    for key, kinds in keys.items():
        if not told.get(key):
            missed.append(f"{key!a} is not named")
        elif not told[key] <= kinds:
            false.append(f"{key!a} is {', '.join(told[key])}, not {' or '.join(kinds)}")
    false += [f"{key!a} is {', '.join(told[key])}" for key in told.keys() - keys.keys()]
    for kind, count in counts.items():
        if result.by_kind.get(kind) != count:
            missed.append(f"{result.by_kind.get(kind)} are {kind}, not {count}")
    return missed, false
