"""Reads access logs: guesses the format of each file from its first lines, and gives requests.

Who counts millions of lines takes `batches`, which are rows of texts as they stand in the log;
everybody else takes `entries`. A line that is none is counted, and a few are kept to be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from bridge.errors import ConfigError, Problem
from bridge.evidence.logs import files
from bridge.evidence.logs.entry import FIELDS, Entry, make
from bridge.evidence.logs.formats import KNOWN, Format, read_format
from bridge.evidence.logs.jsonlines import read_line

__all__ = ["Batch", "Reader", "entries"]

_LOOKED_AT = 200  # lines from which a format is guessed
_EXAMPLES, _SHOWN = 3, 200  # lines that are none, and characters of one
_JSON = "JSON lines"
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Batch:
    """Requests as a log has them: `at` says which place of a row has what, by the names of
    FIELDS; `request` is always there. Times are in seconds when multiplied with `scale`."""

    at: dict[str, int]
    rows: Sequence[tuple[Any, ...]]
    scale: float = 1.0


class Reader:
    """Logs, one after the other.

    paths: files, plain or compressed; `-` is standard input.
    log_format: in nginx's or Apache's words; None: it is guessed.
    on_progress: is given the bytes that were read, and how many there are (None: nobody knows).

    `lines` have been read so far; `unread` of them are no requests, a few are in `examples`;
    `formats` are those that were found, `notes` what else was wrong. Raises ValueError for a
    format that cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[str | PathLike[str]],
        log_format: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._paths = [fspath(path) for path in paths]
        self._given = read_format(log_format) if log_format else None
        self._on_progress, self._read = on_progress, 0
        self._total = files.sizes(self._paths) if on_progress else None
        self.lines = self.unread = 0
        self.examples: list[str] = []
        self.formats: list[str] = []
        self.notes: list[str] = []

    def batches(self) -> Iterator[Batch]:
        """All requests. Raises ConfigError for a file that is no log."""
        for path in self._paths:
            yield from self._file(path)

    def entries(self) -> Iterator[Entry]:
        """All requests, with their values. Raises ConfigError for a file that is no log."""
        for batch in self.batches():
            names, scale = tuple(batch.at), batch.scale
            for row in batch.rows:
                yield make(dict(zip(names, row, strict=True)), scale)

    def _file(self, path: str) -> Iterator[Batch]:
        format_: Format | None = self._given
        is_json = known = False
        waiting, fitted = "", 0
        seen: list[str] = []
        for block in files.blocks(path, self._progressed, self.notes.append):
            text = waiting + block
            if not known and self._given is None:
                head = text.split("\n", _LOOKED_AT)[:_LOOKED_AT]
                found = _guess(head)
                if found is None and text.count("\n") < 100_000 and len(text) < 2**22:
                    waiting = text
                    continue
                is_json, format_, known = (
                    found == _JSON,
                    found if isinstance(found, Format) else None,
                    True,
                )
                name = _JSON if is_json else format_.name if format_ else ""
                if name and name not in self.formats:
                    self.formats.append(name)
            waiting = ""
            if not seen:
                seen = [line[:_SHOWN] for line in text.split("\n", 1)[:1]]
            batch = self._json(text) if is_json else self._text(text, format_) if format_ else None
            if batch is None:
                break
            fitted += len(batch.rows)
            if batch.rows:
                yield batch
        if waiting:  # a short file without a format that fits, or one with odd lines first
            batch = self._whatever(waiting)
            fitted += len(batch.rows) if batch else 0
            seen = seen or [waiting.split("\n", 1)[0][:_SHOWN]]
            if batch:
                yield batch
        if not fitted and seen:
            raise self._no_log(path, seen[0])

    def _whatever(self, text: str) -> Batch | None:
        """The lines of a file whose first lines are none: whichever format fits any."""
        found = _guess(text.split("\n"))
        if found is None:
            return None
        self.formats += [
            name
            for name in [found if isinstance(found, str) else found.name]
            if name not in self.formats
        ]
        return self._text(text, found) if isinstance(found, Format) else self._json(text)

    def _progressed(self, count: int) -> None:
        self._read += count
        if self._on_progress:
            self._on_progress(self._read, self._total)

    def _text(self, text: str, format_: Format) -> Batch:
        rows = format_.line.findall(text)
        if rows and not isinstance(rows[0], tuple):
            rows = [(row,) for row in rows]
        lines = text.count("\n")
        self.lines += lines
        if len(rows) != lines:
            self._odd(line for line in text.split("\n")[:-1] if not format_.line.fullmatch(line))
        at = {name: index for index, name in enumerate(format_.fields)}
        if "request" not in at:
            rows = [(*row, _composed(row, at)) for row in rows]
            at["request"] = len(at)
        return Batch(at, rows, format_.scale)

    def _json(self, text: str) -> Batch:
        lines = text.split("\n")[:-1]
        self.lines += len(lines)
        rows, odd = [], []
        for line in lines:
            row = read_line(line)
            rows.append(row) if row is not None else odd.append(line)
        self._odd(odd)
        return Batch(_JSON_AT, [row for row in rows if row is not None])

    def _odd(self, lines: Any) -> None:
        for line in lines:
            if not line.strip("\r"):
                self.lines -= 1  # an empty line is nothing
                continue
            self.unread += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(line[:_SHOWN])

    def _no_log(self, path: str, seen: str) -> ConfigError:
        if self._given:
            wanted = "lines of the given format"
        else:
            wanted = (
                f"{', '.join(known.name for known in KNOWN)}, or {_JSON} with request and status"
            )
        hint = "name the format as the server has it: --log-format '$remote_addr … \"$request\" $status'"  # noqa: E501
        what = f"no line of it is a request; expected: {wanted}; its first line: {seen!r}"
        return ConfigError([Problem(path, 1, 1, what, hint)])


_JSON_AT = {name: index for index, name in enumerate(FIELDS)}


def _composed(row: tuple[str, ...], at: dict[str, int]) -> str:
    """The request line of a row that has it in pieces."""

    def part(name: str) -> str:
        return row[at[name]] if name in at else ""

    target = part("target") or part("path")
    query = part("query").removeprefix("?")
    if query and query != "-" and "?" not in target:
        target = f"{target}?{query}"
    return f"{part('method') or 'GET'} {target}"


def _guess(lines: Sequence[str]) -> Format | str | None:
    """The format that most of these lines fit, JSON, or None."""
    lines = [line for line in lines if line]
    best: Format | str | None = None
    most = 0
    for format_ in KNOWN:
        count = sum(1 for line in lines if format_.line.fullmatch(line))
        if count > most:
            best, most = format_, count
    if sum(1 for line in lines if read_line(line) is not None) > most:
        return _JSON
    return best


def entries(
    paths: Sequence[str | PathLike[str]],
    log_format: str | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Entry]:
    """Every request of these logs: see `Reader`, and so is what it raises."""
    return Reader(paths, log_format, on_progress).entries()
