"""Logs for people and machines: one JSON object a line, UTC, no local variables in tracebacks.

The access log is `AccessLog`, a plug-in of the dispatcher; everything else goes through
structlog to standard error.
"""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

import structlog

from bridge.proxy.hooks import Hooks, Outcome

__all__ = ["AccessLog", "configure", "traceback_text"]


def configure(stream: TextIO | None = None, *, pretty: bool | None = None) -> None:
    """Send the application's log to `stream` (standard error). `pretty` for a terminal."""
    stream = stream or sys.stderr
    pretty = stream.isatty() if pretty is None else pretty
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    plain = structlog.dev.plain_traceback  # rich ones show local variables, secrets and all
    if pretty:
        shared.append(structlog.dev.ConsoleRenderer(exception_formatter=plain))
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        logger_factory=structlog.PrintLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    )


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it. structlog's own, where nobody configured it, shows
    local variables, secrets and all; so errors are logged with this."""
    return "".join(traceback.format_exception(error))


class AccessLog(Hooks):
    """One JSON line per response. The query is left out: it may hold what is nobody's business.

    Several processes may append to one file: each line is one write.
    """

    def __init__(self, path: str) -> None:
        """`path` is a file to append to, or `-` for standard output."""
        # Kept open for the life of the process; closed by `close` or with the process.
        self._file = sys.stdout.buffer if path == "-" else open(path, "ab", buffering=0)  # noqa: SIM115

    def after_response(self, outcome: Outcome) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": outcome.request_id,
            "client": outcome.client,
            "method": outcome.method,
            "host": outcome.host,
            "path": outcome.path,
            "status": outcome.status,
            "bytes": outcome.sent,
            "ms": round(outcome.seconds * 1000, 2),
            "site": outcome.site,
            "route": outcome.route,
            "backend": outcome.backend,
            "reason": outcome.reason,
            "detail": outcome.detail,
            "generation": outcome.generation,
            "table": outcome.digest,
        }
        for name in ("fallback", "fallback_detail", "error", "aborted"):
            if value := getattr(outcome, name):
                record[name] = value
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not sys.stdout.buffer:
            self._file.close()
