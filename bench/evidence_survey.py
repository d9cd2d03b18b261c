"""How fast `bridgectl survey` reads: a combined log of a made-up site, plain, from end to end."""

from __future__ import annotations

import random
import time
from pathlib import Path

from bench.report import BenchmarkFailed

__all__ = ["lines_per_s", "write_log"]

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
)


def write_log(path: Path, lines: int, *, skew: float) -> None:
    """A log in the combined format: projects, topics, files, a search; the same each time.

    skew: how much more often few pages are asked for; 1: all alike.
    """
    dice = random.Random(7)

    def often(many: int) -> int:
        """A few are asked for often, and most of them seldom."""
        return int(many * dice.random() ** skew)

    with path.open("w", encoding="ascii") as file:
        for number in range(lines):
            target = dice.choices(
                (
                    f"/project/p{often(20_000)}",
                    f"/viewtopic.php?t={often(90_000)}&start={15 * often(9)}",
                    f"/download/p{often(9_000)}/file-{often(400)}.tar.gz",
                    "/",
                    f"/search?q=word{often(3_000)}",
                    f"/theme/img/icon{often(60)}.png",
                ),
                (25, 15, 5, 10, 5, 40),
            )[0]
            second = number // 40
            clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
            file.write(
                f"198.51.{dice.randrange(256)}.{dice.randrange(256)} - - "
                f"[17/May/2026:{clock} +0000] "
                f'"GET {target} HTTP/1.1" 200 {dice.randrange(90_000)} "-" '
                f'"{dice.choice(_AGENTS)}"\n'
            )


def lines_per_s(path: Path, lines: int) -> float:
    """Lines a second of processor time, reading and grouping, rules found. Raises
    BenchmarkFailed."""
    from bridge.evidence.logs import Reader
    from bridge.evidence.survey import Survey

    began = time.process_time()
    survey, reader = Survey(), Reader([str(path)])
    for batch in reader.batches():
        survey.add(batch)
    rules = survey.rules()
    took = time.process_time() - began
    if reader.unread or sum(rule.tally.requests for rule in rules) == 0:
        raise BenchmarkFailed(f"{reader.unread} lines of the log were not read")
    return lines / took
