"""Whether a flip is live, in how many workers, and who answers since then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import BridgeError, StateUnreadable
from bridge.proxy.routing.models import parse_percent
from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry.surroundings import Compared, compare
from bridge.proxy.telemetry.workers import read_all
from bridge.proxy.tools.flip import Done, Flip
from bridge.settings import Settings

__all__ = ["Answered", "Live", "wait_until_live", "watch_answers"]

Counts = dict[tuple[str, str], int]

_LIVE_WITHIN = 5.0  # seconds that `flip` waits for the workers
_WATCH = 2.0  # seconds that it then looks who answers
_QUIET = 0.5  # seconds without any visitor after which it looks no longer
_ENOUGH = 20  # answers that tell who answers


@dataclass(frozen=True, slots=True)
class Live:
    """How many workers there are, how many of them have the new shares, and after how long;
    `without`: in how many a route that was flipped has no Python side that can be imported, and
    what they say of it; `differs`: what they run with otherwise than this shell."""

    workers: int
    live: int
    seconds: float
    without: int
    says: str
    differs: Compared


@dataclass(frozen=True, slots=True)
class Answered:
    """Who answered the flipped routes since the flip was live: requests by backend, and those
    among them that legacy answered instead of Python, by reason. Seconds it was looked for."""

    by: dict[str, int]
    fallbacks: dict[str, int]
    seconds: float


def wait_until_live(settings: Settings, flips: Sequence[Flip]) -> Live:
    """Wait until all workers have the new shares.

    The share is looked for and not only the table that the flip made: another flip may have
    replaced that before a worker loaded it.
    """
    begin = time.monotonic()
    wanted = {one.name for one in flips if parse_percent(one.new)}
    while True:
        try:
            workers = read_all(settings.state_dir)
        except StateUnreadable as error:
            raise BridgeError(
                f"changed, but {error.folder} cannot be read as this user: "
                "not known whether it is live"
            ) from None
        live = sum(
            all(
                one.digest == worker.digest or worker.share_of(one.name) == one.new for one in flips
            )
            for worker in workers
        )
        without = [worker for worker in workers if worker.missing(wanted)]
        waited = time.monotonic() - begin
        if (live == len(workers) and not without) or waited > _LIVE_WITHIN:
            break
        time.sleep(0.02)
    says = next((worker.error for worker in without if worker.error), "it cannot be imported")
    return Live(len(workers), live, waited, len(without), says, compare(workers, settings))


def watch_answers(settings: Settings, done: Done, patience: float | None) -> Answered | None:
    """Look who answers the flipped routes, until there are enough answers or the time is over."""
    if patience == 0:
        return None
    names = {one.name for one in done.flips if one.changed}
    routes = {
        row["route"]
        for worker in read_all(settings.state_dir)
        for row in worker.rows
        if names & {row["route"], row["group"]}
    }
    before, failed = _counts(settings)
    begin = time.monotonic()
    while True:
        now, fallbacks = _counts(settings)
        waited = time.monotonic() - begin
        new = {key: count - before.get(key, 0) for key, count in now.items()}
        by: dict[str, int] = {}
        for (route, backend), count in new.items():
            if route in routes and count > 0:
                by[backend] = by.get(backend, 0) + count
        enough = sum(by.values()) >= _ENOUGH and patience is None
        quiet = patience is None and waited > _QUIET and not any(new.values())
        if enough or quiet or waited > (patience or _WATCH):
            break
        time.sleep(0.02)
    reasons: dict[str, int] = {}
    for (route, reason), count in fallbacks.items():
        if route in routes and (more := count - failed.get((route, reason), 0)) > 0:
            reasons[reason] = reasons.get(reason, 0) + more
    return Answered(by, reasons, waited)


def _counts(settings: Settings) -> tuple[Counts, Counts]:
    """Answers by route and backend, and fallbacks by route and reason."""
    return (
        scrape.answered(settings.state_dir),
        scrape.by_two(settings.state_dir, scrape.FALLBACKS),
    )
