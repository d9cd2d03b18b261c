"""What a comparison has found, and what is kept of it: the words that all others speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.evidence.answers import Answer, Asked, Kind

__all__ = ["Counts", "Found", "Group", "Kind", "Page", "Place", "Sample", "Shown"]


class Place(Protocol):
    """One difference, as the comparers have it.

    place, group: where, exactly, and without numbers.
    what: changed, missing, added, …
    legacy, python: excerpts of both sides.
    """

    @property
    def place(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def legacy(self) -> str: ...
    @property
    def python(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Found:
    """One request that both sides were asked, or that could not be compared.

    source: `compare` or `shadow`.
    legacy, python: None where a side gave no answer.
    differences: those that make it what `kind` says.
    at: Unix seconds.
    release, rules: of the handlers and of the data rules, as `bridge.evidence.release` names them.
    why: in words, where it was not compared, or was declined.
    """

    route: str
    source: str
    kind: Kind
    asked: Asked
    legacy: Answer | None
    python: Answer | None
    differences: Sequence[Place]
    at: float
    release: str
    rules: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests of a route came to what."""

    same: int = 0
    noise: int = 0
    lag: int = 0
    different: int = 0
    declined: int = 0
    not_compared: int = 0

    @property
    def compared(self) -> int:
        """Those whose answers were compared."""
        return self.same + self.noise + self.lag + self.different

    @property
    def by_kind(self) -> dict[str, int]:
        """The same, by the name of each kind."""
        return {kind.value: getattr(self, kind.value.replace("-", "_")) for kind in Kind}


@dataclass(frozen=True, slots=True)
class Group:
    """Equal differences of a route: the same place but for numbers, the same `what`, the same kind.

    id: for people to type.
    first, last: when it was seen, in Unix seconds.
    release, rules: those of the last time.
    sources: who has seen it.
    """

    id: int
    route: str
    place: str
    what: str
    kind: Kind
    count: int
    first: float
    last: float
    release: str
    rules: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One side's answer as it is kept: secrets are blacked out, and the body is decoded text.

    length: bytes of the body as it was sent.
    left_out: why the body is not here, or not here as a whole; empty where it is.
    """

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    text: str
    length: int
    digest: str
    left_out: str = ""
    reads: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shown:
    """One difference of a sample, as it is kept: the attributes are those of `Place`."""

    place: str
    group: str
    what: str
    legacy: str
    python: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of a group, with both answers.

    asked: without secrets.
    difference: the one that belongs to the group.
    why: as in `Found`.
    """

    at: float
    source: str
    release: str
    asked: Asked
    legacy: Page | None
    python: Page | None
    difference: Shown
    why: str = ""
