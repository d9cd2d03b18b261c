"""The simplest comparison: whether status and body are the same bytes, and stay different."""

from __future__ import annotations

from bridge.evidence.answers import Answer, Asked, Kind
from bridge.evidence.asking import NoAnswer
from bridge.evidence.shadow.looking import Sides

__all__ = ["plainly"]


def plainly(sides: Sides, asked: Asked, legacy: Answer) -> Kind:
    """Compare legacy's answer with Python's. Legacy is asked again only where they differ, and
    where that is allowed."""
    try:
        python = sides.python(asked)
        if _same(legacy, python):
            return Kind.SAME
        if not sides.again:
            return Kind.DIFFERENT
        if not _same(legacy, again := sides.legacy(asked)):
            return Kind.LAG if _same(again, python) else Kind.NOISE
        return Kind.LAG if _same(legacy, sides.python(asked)) else Kind.DIFFERENT
    except NoAnswer as error:
        return error.kind


def _same(one: Answer, other: Answer) -> bool:
    return (one.status, one.length, one.digest) == (other.status, other.length, other.digest)
