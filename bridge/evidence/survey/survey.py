"""Counts the requests of logs: rules for paths, static files, and what cannot be read in one way.

Memory is bounded: requests that are alike are counted together, for some thousands at a time,
before their path is looked at. What they mean is for others: `order` and `progress`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.errors import VisitorError
from bridge.evidence.logs import Batch
from bridge.evidence.logs.entry import number, seconds_of, split_request, time_of
from bridge.evidence.survey.paths import Paths, Rule
from bridge.evidence.survey.progress import Progress
from bridge.evidence.survey.scripts import Scripts
from bridge.evidence.survey.tally import Tally
from bridge.proxy.request.target import Target, parse_target

__all__ = ["STATIC", "Survey"]

STATIC = frozenset(
    ".avif .bmp .css .csv .doc .docx .eot .exe .flac .gif .gz .ico .iso .jar .jpeg .jpg .js .json5 "
    ".map .mjs .mov .mp3 .mp4 .ogg .otf .pdf .png .ppt .pptx .rar .svg .swf .tar .tgz .tiff .ttf "
    ".txt .wasm .wav .webm .webmanifest .webp .woff .woff2 .xls .xlsx .xz .zip .7z .bz2 .deb .rpm "
    ".dmg".replace(".", "").split()
)
"""Ends of names of what a web server gives as it lies there."""

_PENDING = 30_000
_HOSTS = 50
_BACK = 3600.0  # seconds; a batch that begins so much earlier is of an older file


class Survey:
    """What logs say.

    `total` counts everything, `static` files by the end of their names, `odd` what is no request
    or could be read in two ways; the sum of both and of all rules is the total. `progress` is of
    the bridge's own log, None for others. `first` and `last` are Unix seconds, 0: not known.
    """

    def __init__(self) -> None:
        self.total, self.odd = Tally(), Tally()
        self.static: dict[str, Tally] = {}
        self.hosts: dict[str, int] = {}
        self.first = self.last = 0.0
        self.progress: Progress | None = None
        self.scripts = Scripts()
        self._paths = Paths()
        self._pending: dict[tuple[Any, ...], list[Any]] = {}
        self._ended = 0.0  # when the last batch did

    def add(self, batch: Batch) -> None:
        """Count the requests of `batch`."""
        at, rows = batch.at, batch.rows
        self._span(at, rows)
        more = [at[name] for name in ("user", "seconds", "cookie") if name in at]
        if "host" in at:
            self._hosts(rows, at["host"])
        if "ours" in at:
            self._ours(at, rows)
        request, status, size = at["request"], at.get("status"), at.get("bytes")
        time = at.get("time", request)
        pending = self._pending
        if status is None or size is None or (more and self._says(rows, more)):
            self._add_slowly(batch)
        else:
            for row in rows:
                key = row[request], row[status]
                known = pending.get(key)
                if known is None:
                    known = pending[key] = [0, 0, ""]
                known[0] += 1
                known[2] = row[time]
                if (sent := row[size]) != "-":
                    known[1] += number(sent)
        if len(pending) > _PENDING:
            self._fold()

    @staticmethod
    def _says(rows: Sequence[tuple[Any, ...]], places: Sequence[int]) -> bool:
        """Whether any row has something at one of these places."""
        return any(
            any(value not in ("-", "", None) for value in {row[place] for row in rows})
            for place in places
        )

    def _add_slowly(self, batch: Batch) -> None:
        """Rows that have more than a status and a size."""
        at = batch.at
        places = [
            at.get(name)
            for name in ("request", "status", "bytes", "time", "user", "seconds", "cookie")
        ]
        for row in batch.rows:
            request, status, size, time, user, took, cookie = (
                "" if place is None else row[place] for place in places
            )
            logged_in = user not in ("", "-", None)
            sets = None if cookie is None or "cookie" not in at else cookie not in ("", "-")
            key = request, status, logged_in, sets
            known = self._pending.get(key)
            if known is None:
                known = self._pending[key] = [0, 0, "", {}]
            known[0] += 1
            known[1] += number(size)
            known[2] = time
            if (seconds := seconds_of(took, batch.scale) if took else None) is not None:
                known[3][seconds] = known[3].get(seconds, 0) + 1

    def _span(self, at: Mapping[str, int], rows: Sequence[tuple[Any, ...]]) -> None:
        if "time" in at and rows:
            times = [time_of(row[at["time"]]) for row in (rows[0], rows[-1])]
            if times[0] < self._ended - _BACK:
                # What is pending has the time of its last row, which must be its newest.
                self._fold()
            self._ended = times[1]
            self.first = min(filter(None, [self.first, *times]), default=0.0)
            self.last = max(self.last, *times)

    def _hosts(self, rows: Sequence[tuple[Any, ...]], at: int) -> None:
        for row in rows:
            host = row[at]
            if host in self.hosts or len(self.hosts) < _HOSTS:
                self.hosts[host] = self.hosts.get(host, 0) + 1

    def _ours(self, at: Mapping[str, int], rows: Sequence[tuple[Any, ...]]) -> None:
        place = at["ours"]
        for row in rows:
            if (line := row[place]) is not None:
                self.progress = self.progress or Progress()
                self.progress.add(line)

    def _fold(self) -> None:
        pending, self._pending = self._pending, {}
        for key, known in pending.items():
            method, target = split_request(key[0])
            requests, size, time = known[:3]
            tally = self._tally(method, target, requests, time)
            for one in (tally, self.total):
                one.count(method, key[1] or "-", requests, size)
                if len(key) > 2:
                    one.users += requests if key[2] else 0
                    if key[3] is not None:
                        one.cookies = max(one.cookies, 0) + (requests if key[3] else 0)
                    for seconds, count in known[3].items():
                        one.took(seconds, count)
                one.urls.add(target)

    def _tally(self, method: str, target: str, requests: int, time: str) -> Tally:
        parsed = parsed_target(method, target)
        if parsed is None or parsed.path is None:
            return self.odd
        path = parsed.path
        self.scripts.seen(path, time)
        _, dot, extension = path.rpartition("/")[2].rpartition(".")
        if dot and extension.lower() in STATIC:
            return self.static.setdefault(extension.lower(), Tally())
        return self._paths.at(path, parsed.query, requests)

    def rules(self) -> list[Rule]:
        """The rules that all other requests fit, those with the most requests first."""
        self._fold()
        return self._paths.rules()


def parsed_target(method: str, target: str) -> Target | None:
    """The target of a request of a log; None for what is none."""
    try:
        return parse_target(method, target) if method else None
    except VisitorError:
        return None
