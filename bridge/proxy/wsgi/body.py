"""The body of a response on its way to the visitor, and the report of what became of it.

It is what the dispatcher returns to the WSGI server. A body that breaks off ends in an
exception, which makes the server abort the response: the visitor must never take a body that
was cut short for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog

from bridge.errors import LegacyError
from bridge.logs import traceback_text
from bridge.proxy.hooks import Outcome
from bridge.reasons import Stage

__all__ = ["ReportedBody"]

log = structlog.get_logger("bridge.proxy")


class ReportedBody:
    """`pieces`, counted, and reported once when the server closes it.

    report: called with `outcome`, once.
    close: ends what makes the pieces.
    cut_off: called when the body breaks off.
    length: bytes that must come, where that is not known to be checked already.
    """

    __slots__ = ("_close", "_cut_off", "_ended", "_left", "_outcome", "_pieces", "_report")

    def __init__(
        self,
        outcome: Outcome,
        pieces: Iterator[bytes],
        report: Callable[[Outcome], None],
        *,
        close: Callable[[], None] | None = None,
        cut_off: Callable[[], None] | None = None,
        length: int | None = None,
    ) -> None:
        self._outcome, self._pieces, self._left = outcome, pieces, length
        self._close, self._cut_off, self._ended = close, cut_off, False
        self._report: Callable[[Outcome], None] | None = report

    def __iter__(self) -> ReportedBody:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._ended = True
            if self._left:
                message = f"body ended {self._left} bytes early"
                self._abort(f"handler: {message}")
                raise LegacyError(Stage.BODY, 502, message) from None
            raise
        except BaseException as error:
            self._ended = True
            self._abort(f"{self._outcome.backend}: {error}")
            raise
        self._outcome.sent += len(piece)
        if self._left is not None:
            self._left = max(self._left - len(piece), 0)
        return piece

    def _abort(self, reason: str) -> None:
        self._outcome.aborted = reason
        if self._cut_off:
            self._cut_off()

    def close(self) -> None:
        """Called by the server, also when the visitor is gone (PEP 3333)."""
        report, self._report = self._report, None
        if report is None:
            return
        outcome = self._outcome
        try:
            if self._close:
                self._close()
        except Exception as error:
            text = traceback_text(error)
            log.error("closing a response failed", request_id=outcome.request_id, traceback=text)
        if not self._ended and outcome.method != "HEAD" and self._left != 0:
            outcome.aborted = outcome.aborted or "visitor left"
        report(outcome)
