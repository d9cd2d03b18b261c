"""Logs for people and machines: one JSON object a line, UTC, no local variables in tracebacks.

Everything goes through structlog to standard error, but for the access log, which is
`bridge.proxy.telemetry.accesslog`.
"""

from __future__ import annotations

import sys
import traceback
from typing import TextIO

import structlog

__all__ = ["configure", "traceback_text"]

_MOST = 1000  # tracebacks that are known again


class _Once:
    """Lets each traceback pass once: a handler that is asked again and again fails as often."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(
        self, logger: object, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        text = event.get("traceback")
        if isinstance(text, str):
            if text in self._said:
                raise structlog.DropEvent
            if len(self._said) < _MOST:
                self._said.add(text)
        return event


def configure(
    stream: TextIO | None = None, *, pretty: bool | None = None, once: bool = False
) -> None:
    """Send the application's log to `stream` (standard error).

    pretty: for a terminal.
    once: each traceback is logged once.
    """
    stream = stream or sys.stderr
    pretty = stream.isatty() if pretty is None else pretty
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if once:
        shared.insert(0, _Once())
    plain = structlog.dev.plain_traceback  # rich ones show local variables, secrets and all
    if pretty:
        shared.append(structlog.dev.ConsoleRenderer(exception_formatter=plain))
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        # Text and line end in one write: several processes share the stream.
        logger_factory=structlog.WriteLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    )


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it. structlog's own, where nobody configured it, shows
    local variables, secrets and all; so errors are logged with this."""
    return "".join(traceback.format_exception(error))
