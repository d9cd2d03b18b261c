"""What reconciling finds: differences, and the result of one entity. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bridge.sync.doubts import KINDS, Kind

__all__ = ["Difference", "ReconcileResult"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that differs. sql, mongodb: the versions, None where there is nothing alive or dead.
    detail: what is known beyond the kind. count: of rows or documents that it stands for. values:
    field by field what SQL and MongoDB have, where that was asked for."""

    key: str
    kind: Kind
    sql: int | None = None
    mongodb: int | None = None
    detail: str = ""
    count: int = 1
    values: tuple[dict[str, str], ...] = ()


@dataclass(slots=True)
class ReconcileResult:
    """What came of one entity.

    rows, documents: alive, in SQL and in MongoDB. explained: how many more rows than documents
    there were where keys were looked at, each of them on both sides; what is in `rows` and
    `documents` and not in it makes the result unequal, whatever the reason. compared:
    documents whose contents were. seconds: of all of it; summing: of reading both sides. repaired:
    differences by kind that were there and are gone. differences: what is left. more: whether
    there are even more than these.
    """

    entity: str
    rows: int = 0
    documents: int = 0
    explained: int = 0
    compared: int = 0
    seconds: float = 0.0
    summing: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    repaired: dict[str, int] = field(default_factory=dict)
    more: bool = False

    @property
    def equal(self) -> bool:
        """Whether nothing differs, or nothing any more, and the numbers of both sides say so,
        too."""
        return not self.differences and not self.more and self.adds_up

    @property
    def adds_up(self) -> bool:
        """Whether all that one side has more than the other was looked at."""
        return self.rows - self.documents == self.explained

    @property
    def by_kind(self) -> dict[str, int]:
        """How many differences there are of each kind that there is."""
        found: Counter[Kind] = Counter()
        for one in self.differences:
            found[one.kind] += one.count
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def rate(self) -> float:
        """Rows a second, of the side with more of them."""
        return max(self.rows, self.documents) / self.summing if self.summing else 0.0
