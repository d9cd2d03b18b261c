"""Where metrics, logs and tracing plug in: a base class whose hooks do nothing.

The dispatcher knows hooks, not what they are for. A hook runs in the request's thread and must
be quick; one that raises is logged and never changes an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.proxy.decision.decide import Decision
from bridge.proxy.request.head import Head

__all__ = ["Hooks", "Outcome"]


@dataclass(slots=True)
class Outcome:
    """What became of one request; complete when `after_response` gets it.

    `backend` is who answered in the end: `python`, a legacy backend's name, or `bridge` for a page
    of our own. `reason` says why that side was chosen, `fallback` why Python's answer was not used
    (empty otherwise), `bucket` is the visitor's where that decided, `aborted` who cut a body short
    and why: it begins with `visitor`, with `bridge`, or with a side that answers. `freshness` says
    how the visitor's own edits were had that the answer depends on, a fixed word; `log_end` what
    became of the question where the database's log ends, in an answer that may tell of one. `loop`
    names the routes of a redirect loop that was stopped here (status 508) or only seen. `odd` is
    what began the lines of legacy's head that were no headers, and were dropped. `seconds` is the
    whole time.

    `legacy` is the backend that was asked, `stage` the one in which that failed. The stages, in
    seconds, -1 where there was none: `wait` for a place among the connections, `connect`,
    `first_byte` from there to the answer's head (or its failure), `asked` from there until it was
    known where the log ends, or not waited for any more, `handler` from the request for a thread
    to the handler's head.
    """

    request_id: str
    generation: int
    digest: str
    method: str = ""
    host: str = ""
    path: str = ""
    client: str = ""
    site: str = ""
    route: str = ""
    backend: str = "bridge"
    reason: str = ""
    detail: str = ""
    bucket: int | None = None
    fallback: str = ""
    fallback_detail: str = ""
    error: str = ""
    aborted: str = ""
    status: int = 0
    sent: int = 0
    seconds: float = 0.0
    started: float = field(default=0.0, repr=False)
    freshness: str = ""
    log_end: str = ""
    loop: str = ""
    odd: tuple[str, ...] = ()
    legacy: str = ""
    stage: str = ""
    wait: float = -1.0
    connect: float = -1.0
    first_byte: float = -1.0
    asked: float = -1.0
    handler: float = -1.0

    @property
    def aborted_by(self) -> str:
        """Who cut the body short: `visitor`, `bridge`, or `backend` for a side that answers."""
        first = self.aborted.replace(":", " ").partition(" ")[0]
        return first if first in ("visitor", "bridge") else "backend"


class Hooks:
    """Override what is of interest."""

    def on_decision(self, head: Head, decision: Decision) -> None:
        """A request has been decided."""

    def after_response(self, outcome: Outcome) -> None:
        """A response is through, or was cut short."""
