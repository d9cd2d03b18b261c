"""The messages of `bench.queue`: events of a software forge's projects, about 700 bytes each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bench.report import BenchmarkFailed
from bridge.queue.events import Event

__all__ = ["event", "events", "same"]

WORDS = ("small", "fast", "library", "program", "parses", "streams", "files", "of", "and", "for")


def event(number: int, name: str = "project", version: int = 1) -> Event:
    """The event number `number`; each is about a project of its own."""
    words = " ".join(WORDS[(number * 7 + n * 3) % len(WORDS)] for n in range(30))
    return Event(
        entity="project",
        change="changed",
        key=f"{name}-{number}",
        version=version,
        source="/forge",
        data={
            "name": f"{name}-{number}",
            "summary": f"A {words[:40]}",
            "description": f"Müller’s {words}.",
            "section": "devel",
            "homepage": f"https://forge.example/{name}-{number}/",
            "maintainer": "Jörg Müller",
            "version": f"1.{number % 40}.{number % 7}",
            "size_kb": 100 + number % 9000,
            "updated": "2024-02-29",
            "downloads": number * 3,
            "license": "GPL-2.0",
        },
    )


def events(count: int) -> list[str]:
    """The JSON texts of `count` events."""
    return [event(number).to_json() for number in range(count)]


def same(what: str, sent: Sequence[str], received: Iterable[bytes | str]) -> None:
    """Raises BenchmarkFailed unless every text arrived, once, as it was sent."""
    arrived = Counter(body.encode() if isinstance(body, str) else bytes(body) for body in received)
    wanted = Counter(body.encode() for body in sent)
    if arrived != wanted:
        raise BenchmarkFailed(
            f"{what}: of {len(sent)} messages {(wanted - arrived).total()} did not arrive, "
            f"and {(arrived - wanted).total()} arrived twice or changed"
        )
