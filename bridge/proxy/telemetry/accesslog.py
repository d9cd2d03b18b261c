"""The access log: one JSON line per response, a plug-in of the dispatcher.

No visitor waits for who reads it: see `bridge.logpipe`.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache

import structlog

from bridge.logpipe import LogPipe, may_block
from bridge.proxy.hooks import Hooks, Outcome

__all__ = ["AccessLog"]

log = structlog.get_logger("bridge.proxy")

_quoted = json.encoder.encode_basestring_ascii
_SOMETIMES = (
    "fallback",
    "fallback_detail",
    "freshness",
    "log_end",
    "loop",
    "error",
    "aborted",
)
_MOST = 64 * 1024  # bytes of lines that are kept for one write
_REMEMBERED = 128  # characters of method and host
_PARTING = 0.5  # seconds that the end waits for a reader
_SILENCE = 60.0  # seconds between two words about lines that could not be written


def _who(client: str, method: str, host: str) -> str:
    """Part of a line that is the same for all requests of a visitor."""
    return f',"client":{_quoted(client)},"method":{_quoted(method)},"host":{_quoted(host)}'


_known_who = lru_cache(maxsize=4096)(_who)


@lru_cache(maxsize=4096)
def _side(
    site: str,
    route: str,
    backend: str,
    reason: str,
    detail: str,
    bucket: int | None,
    generation: int,
    digest: str,
) -> str:
    """Part of a line that is the same for most requests of a route."""
    number = "" if bucket is None else f',"bucket":{bucket}'
    return (
        f',"site":{_quoted(site)},"route":{_quoted(route)},"backend":{_quoted(backend)}'
        f',"reason":{_quoted(reason)},"detail":{_quoted(detail)}{number}'
        f',"generation":{generation},"table":{_quoted(digest)}'
    )


class AccessLog(Hooks):
    """One JSON line per response. The query is left out: it may hold what is nobody's business.

    Several processes may append to one file: each write has whole lines. With `batched`, lines
    are written by `flush`, or when there are many.
    """

    def __init__(self, path: str, *, batched: bool = False) -> None:
        """`path` is a file to append to, or `-` for standard output."""
        self._path = path
        self._is_own = path != "-"
        self._file = self._open() if self._is_own else sys.stdout.fileno()
        self._pipe = self._pipe_to()
        self._batched = batched
        self._lines: list[str] = []
        self._size = 0
        self._second, self._millisecond, self._day, self._time = 0, 0, "", ""
        self._lost, self._silent_until = 0, 0.0

    def _open(self) -> int:
        way = os.O_WRONLY
        try:
            if stat.S_ISFIFO(os.stat(self._path).st_mode):
                way = os.O_RDWR  # to write only, one would wait for a reader
        except FileNotFoundError:
            pass
        return os.open(self._path, way | os.O_APPEND | os.O_CREAT, 0o666)

    def _pipe_to(self) -> LogPipe | None:
        return LogPipe(self._file, self._lose) if may_block(self._file) else None

    def reopen(self) -> None:
        """Go on in a new file after the old one was moved away, or in the old one if there can
        be none. Other threads may be writing: each line gets into one of the two."""
        if not self._is_own:
            return
        self.flush()
        try:
            new = self._open()
        except OSError as error:
            log.error("cannot open the access log anew; the old file stays", error=str(error))
            return
        os.dup2(new, self._file, inheritable=False)
        os.close(new)
        self._pipe = self._pipe_to()

    def after_response(self, outcome: Outcome) -> None:
        line = self._line(outcome)
        if not self._batched:
            self._write(line.encode())
            return
        self._lines.append(line)
        self._size += len(line)
        if self._size > _MOST:
            self.flush()

    def flush(self) -> None:
        """Write the lines that are kept."""
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._write("".join(lines).encode())

    def _write(self, data: bytes) -> None:
        """What cannot be written is lost: visitors are answered all the same."""
        if self._pipe is not None:
            self._pipe.write(data)
            return
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self._lose(error.strerror or str(error), data.count(b"\n"))

    def _lose(self, reason: str, lines: int) -> None:
        """An error says so now and then: the disk is full, or nobody reads."""
        self._lost += lines
        if (now := time.monotonic()) >= self._silent_until:
            self._silent_until = now + _SILENCE
            lost, self._lost = self._lost, 0
            log.error("cannot write the access log", error=reason, lines_lost=lost)

    def _look_at_clock(self, now: int) -> None:
        """`now` is in milliseconds."""
        second, rest = divmod(now, 1000)
        if second != self._second:
            self._second = second
            self._day = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self._time = f"{self._day}.{rest:03d}+00:00"
        self._millisecond = now

    def _line(self, outcome: Outcome) -> str:
        now = int(time.time() * 1000)
        if now != self._millisecond:
            self._look_at_clock(now)
        side = _side(
            outcome.site,
            outcome.route,
            outcome.backend,
            outcome.reason,
            outcome.detail,
            outcome.bucket,
            outcome.generation,
            outcome.digest,
        )
        client, method, host = outcome.client, outcome.method, outcome.host
        # Visitors may name long hosts and methods without end.
        who = _known_who if len(method) + len(host) <= _REMEMBERED else _who
        more = ""
        if (
            outcome.fallback
            or outcome.error
            or outcome.aborted
            or outcome.freshness
            or outcome.log_end
            or outcome.loop
        ):
            for name in _SOMETIMES:
                if value := getattr(outcome, name):
                    more += f',"{name}":{_quoted(value)}'
            if outcome.legacy and outcome.legacy != outcome.backend:  # the page is our own
                more += f',"legacy":{_quoted(outcome.legacy)}'
        return (
            f'{{"time":"{self._time}","request_id":{_quoted(outcome.request_id)}'
            f"{who(client, method, host)}"
            f',"path":{_quoted(outcome.path)},"status":{outcome.status},"bytes":{outcome.sent}'
            f',"ms":{outcome.seconds * 1000:.2f}{side}{more}}}\n'
        )

    def close(self) -> None:
        self.flush()
        if self._pipe is not None:
            self._pipe.finish(_PARTING)
        if self._is_own:
            os.close(self._file)
