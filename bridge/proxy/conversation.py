"""One request and its answer without the I/O between them: what every shell does alike.

Steps: (1) capture the table, (2) take the head, (3) refuse what cannot be answered, (4) decide,
(5) what a handler gets and what follows from what it did, (6) what legacy gets, (7) what the
visitor gets, (8) report. A shell reads the head, runs the handler or asks legacy, and writes the
answer; it decides nothing. The WSGI shell is `bridge.proxy.wsgi.dispatcher`, the event-loop one
`bridge.proxy.engine`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.errors import BridgeError, LegacyError, UseLegacy, VisitorError
from bridge.logs import traceback_text
from bridge.proxy.decision import preview
from bridge.proxy.decision.decide import PYTHON, Decision, not_ours
from bridge.proxy.decision.rounds import REDIRECTS, Rounds
from bridge.proxy.front import Caller, Front
from bridge.proxy.gate import Marker, Question, Wanted, end_when_settled, is_marked, mark
from bridge.proxy.hooks import Outcome
from bridge.proxy.http import pages
from bridge.proxy.http.compress import Press
from bridge.proxy.http.headers import (
    PublicOrigin,
    apply_rules,
    from_handler,
    keep_apart,
    public_origin,
    renamed,
    to_legacy,
    to_visitor,
    vary_on,
)
from bridge.proxy.http.wire import lowered, without_content
from bridge.proxy.python.threads import PythonFailed
from bridge.proxy.request.admission import Admission
from bridge.proxy.request.cookies import hide_cookie, sets_cookie, share_cookie
from bridge.proxy.request.forwarded import Client
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.routing import models
from bridge.proxy.routing.table import Route
from bridge.proxy.shadow.tap import Copying
from bridge.reasons import Reason

__all__ = ["OPTIONS_HERE", "Answered", "Conversation", "refused"]

log = structlog.get_logger("bridge.proxy")

_FAILED_STATUS = {Reason.PYTHON_BUSY: 503, Reason.PYTHON_TIMEOUT: 504}

_HANDLER_BODY = 32 * 2**20  # bytes, where the site says nothing

OPTIONS_HERE = ("Allow", "GET, HEAD, OPTIONS, POST")
"""The header of an OPTIONS request that goes no further than here."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of our own: a status, the headers without a length, and the whole body."""

    status: int
    headers: Headers
    body: bytes = b""


class Conversation:
    """One request and its answer, on the table that it began with."""

    __slots__ = (
        "_asked",
        "_rounds",
        "_unadorned",
        "admission",
        "client",
        "copying",
        "decider",
        "decision",
        "fresh_key",
        "front",
        "head",
        "is_one_visitors",
        "outcome",
        "route",
        "table",
        "trusted",
        "wanted",
    )

    admission: Admission
    client: Client
    decision: Decision
    head: Head
    is_one_visitors: bool
    """Whether legacy's answer has a cookie that is for this visitor alone."""
    route: Route
    """The one that was decided on, where Python is to answer."""

    def __init__(self, front: Front, method: str, peer: str) -> None:
        """(1) One table from the first byte to the last, whatever is reloaded meanwhile. `peer`
        is the address of the connection; it stands for the visitor until they are known."""
        self.front = front
        self.decider, digits = front.begin()
        self.table = table = self.decider.table
        self.fresh_key = digits[16:]
        self.outcome = Outcome(
            digits[:16],
            table.generation,
            table.digest,
            method,
            client=peer,
            started=time.perf_counter(),
        )
        self.trusted = False
        self.wanted: Wanted | None = None
        self.is_one_visitors = False
        self.copying: Copying | None = None
        self._unadorned: Headers | None = None  # without what only this visitor's share adds
        self._asked = 0.0  # when the handler was asked
        self._rounds: Rounds | None = None

    # (2) and (3)

    def take(self, head: Head) -> None:
        """Note what the request says of itself."""
        outcome = self.outcome
        outcome.host = head.host
        raw = head.target.raw
        outcome.path = raw.partition("?")[0] if "?" in raw else raw

    def accept(self, caller: Caller, head: Head) -> None:
        """Let the request in; `head` is the one to go on with. Raises VisitorError: no such
        site."""
        outcome = self.outcome
        self.admission, self.client, self.trusted = caller.admission, caller.client, caller.trusted
        self.head = head
        address = outcome.client = caller.client.address
        if caller.request_id:
            outcome.request_id = caller.request_id
        if caller.trailed or address in self.front.loops.places:
            self._rounds = self._new_rounds()
        if caller.site is None:
            raise not_ours(head.host)
        outcome.site = caller.site

    def _new_rounds(self) -> Rounds:
        return Rounds(self.front.loops, self.table, self.head, self.client, self.outcome)

    @property
    def max_body(self) -> int | None:
        """The largest body of the site, in bytes."""
        return self.table.file.sites[self.outcome.site].max_body

    @property
    def max_handler_body(self) -> int:
        """The largest body for a handler, in bytes: it is kept here until all of it has come."""
        most = self.max_body
        return _HANDLER_BODY if most is None else most

    # (4)

    def decide(self) -> Decision:
        front, outcome, head = self.front, self.outcome, self.head
        decision = self.decider.decide(
            head, self.client, front.clock(), self.fresh_key, front.secret
        )
        self.decision = decision
        self.route = decision.route  # type: ignore[assignment]  # None where no Python side is
        outcome.site, outcome.reason = decision.site, decision.reason
        outcome.detail, outcome.bucket = decision.detail, decision.bucket
        if not front.secret and preview.is_ignored("", decision.route, head):
            outcome.detail = f"{decision.detail}; {preview.NO_SECRET}"
        outcome.route = decision.route.spec.name if decision.route else ""
        if front.reports_decisions:
            front.report_decision(head, decision)
        if self._rounds is not None:
            self._rounds.look()
        return decision

    @property
    def asks_python(self) -> bool:
        """Whether a handler is to answer now."""
        decision = self.decision
        if not decision.python:
            return False
        route = self.route
        if self.front.loops.is_sent_back(route.name):
            self._falls_back(Reason.REDIRECT_LOOP, "it sent visitors round and round just now")
            return False
        if route.spec.fallback and self.front.breaker_is_open(route.name):
            self._falls_back(Reason.BREAKER_OPEN, "it has failed too often just now")
            return False
        return True

    # (5) Python

    @property
    def again(self) -> bool:
        """Whether legacy may be asked after a handler has run: nothing was written."""
        return self.head.method in ("GET", "HEAD") and self.route.spec.fallback

    def ask_handler(self) -> None:
        """Python is to answer; what the visitor wants to see of their own edits is read."""
        self.outcome.backend = PYTHON
        self._asked = time.perf_counter()
        gate = self.front.gate
        if gate and (
            found := [value for name, value in self.head.cookies() if name == gate.cookie]
        ):
            self.wanted = gate.wanted(found)

    def handler_headers(self) -> Headers:
        """What the handler sees of the request's headers."""
        headers = self.request_headers()
        gate = self.front.gate
        return hide_cookie(headers, gate.cookie) if gate else headers

    @property
    def press(self) -> Press | None:
        """What compresses the handler's answer; None where nothing is to."""
        rules = self.table.file.sites[self.decision.site].compress
        if rules is None or not self.route.spec.compress:
            return None
        return Press(rules, self.head.get("Accept-Encoding"))

    @property
    def needs_fresh(self) -> bool:
        """Whether `is_fresh` has to be asked before the handler runs."""
        return self.wanted is not None

    def is_fresh(self) -> bool:
        """Whether Python has the visitor's own edits; this waits for them, and so blocks."""
        gate, reads = self.front.gate, self.route.spec.reads
        return gate is None or not self.wanted or gate.ensure(self.wanted, reads)

    def not_fresh(self) -> None:
        """Legacy answers: it always has the newest."""
        self._falls_back(Reason.FRESHNESS, f"not yet in MongoDB, of {self.route.spec.reads}")

    def after_failure(self, error: UseLegacy | PythonFailed, *, taken: bool) -> Answered | None:
        """What follows from a handler that declined or failed: a page, or None when legacy is
        to answer. `taken` says that too much of the body is gone for that."""
        route, outcome = self.route, self.outcome
        outcome.handler = time.perf_counter() - self._asked
        if isinstance(error, UseLegacy):
            if taken:
                message = "declined after reading more of the body than can be replayed"
                return self.page(500, message)
            fresh = error.reason == Reason.FRESHNESS
            self._falls_back(Reason.FRESHNESS if fresh else Reason.DECLINED, error.reason)
            return None
        if error.reason != Reason.PYTHON_BUSY:
            self.front.python_did(route.name, well=False)
        if error.cause is not None:
            log.error(
                "handler failed",
                route=route.name,
                request_id=outcome.request_id,
                traceback=traceback_text(error.cause),
            )
        # A handler that never started has written nothing, so legacy may have any method.
        if not self.again and not (error.reason == Reason.PYTHON_BUSY and route.spec.fallback):
            outcome.reason = error.reason
            return self.page(_FAILED_STATUS.get(error.reason, 500), str(error))
        # Frameworks make an error page of the exception that Store raises.
        refused = self.wanted is not None and self.wanted.refused
        self._falls_back(Reason.FRESHNESS if refused else error.reason, error.detail)
        return None

    def check_status(self, status: str, *, taken: bool = False) -> None:
        """Raises UseLegacy for an answer that says that the page is not Python's, and PythonFailed
        for a 5xx that legacy may have a better answer to. `taken`: legacy cannot be asked."""
        declined = self.route.spec.decline_on
        if declined and not taken and int(status[:3]) in declined:
            raise UseLegacy(f"the handler answered {status}")
        if status[0] == "5" and self.again:
            raise PythonFailed(Reason.PYTHON_5XX, f"the handler answered {status}")

    def _falls_back(self, reason: Reason, detail: str) -> None:
        self.outcome.fallback, self.outcome.fallback_detail = reason, detail

    def python_answer(self, status: int, given: Headers) -> Headers:
        """The headers of a handler's answer for the visitor."""
        self.outcome.handler = time.perf_counter() - self._asked
        self.front.python_did(self.route.name, well=status < 500)
        headers = self._apart(apply_rules(from_handler(given), self.decision.rules))
        if (gate := self.front.gate) and self.wanted:
            headers = end_when_settled(headers, gate, self.wanted, self.head, self.front.clock())
        if status == 205:
            headers = without_content(headers)
        if self._rounds is not None or status in REDIRECTS:
            (self._rounds or self._new_rounds()).note(status, headers)
        return headers

    # (6) legacy

    def request_headers(self, **rules: Any) -> Headers:
        """The headers of the request for the other side; `rules` are `to_legacy`'s."""
        return to_legacy(
            self.head,
            self.client,
            trusted_peer=self.trusted,
            hops=self.admission.hops,
            **({"request_id": self.outcome.request_id} | rules),
        )

    def legacy_headers(self, **rules: Any) -> Headers:
        """The headers of the request for the legacy backend that was decided on."""
        backend = self.table.file.backends[self.decision.legacy]
        if backend.host == "preserve":
            headers = self.request_headers(via=backend.via, **rules)
        else:
            headers = self.request_headers(host=backend.host, via=backend.via, **rules)
            headers = renamed(headers, self.client, backend.own, backend.prefix)
        if not backend.keep_alive and not rules.get("upgrade"):
            headers.append(("Connection", "close"))
        return apply_rules(headers, backend.request_headers)

    # (7) for the visitor

    def marker(self, status: int) -> Marker | None:
        """Who is to be asked where the database's log ends, before an answer of legacy's with
        this status goes on; None where nothing was written."""
        gate, route = self.front.gate, self.decision.route
        if gate is None or gate.marker is None:
            return None
        writes = route is not None and route.spec.writes
        return gate.marker if is_marked(self.head.method, status, writes=writes) else None

    def legacy_answer(
        self, status: int, given: Headers, question: Question | None = None
    ) -> Headers:
        """The headers of a legacy answer for the visitor. question: what `marker` was asked."""
        decision = self.decision
        rules, backend = decision.rules, self.table.file.backends[decision.legacy]
        headers = to_visitor(given, self._origin(backend), accel=backend.accel, gone=rules.gone)
        if rules.set:
            headers += rules.set.items()
        if self.front.shadow is not None:
            self._unadorned = [*headers]
        if self.front.gate is not None and self.front.gate.marker is not None:
            headers = self._marked(self.front.gate.marker, headers, question)
        if self._rounds is not None or status in REDIRECTS:
            (self._rounds or self._new_rounds()).note(status, headers)
        return self._apart(headers) if decision.split or decision.conditions else headers

    def _marked(self, marker: Marker, headers: Headers, question: Question | None) -> Headers:
        if question is not None:
            outcome = self.outcome
            outcome.log_end = question.how or "late"
            outcome.asked = time.perf_counter() - question.since
        secure = self.client.scheme == "https"
        marked = mark(headers, marker, question, self.head, secure=secure)
        # Also one that PHP gives: the next visitor may have something that has to be kept in it.
        self.is_one_visitors = sets_cookie(marked, marker.cookie)
        return marked

    def _origin(self, backend: models.Backend) -> PublicOrigin:
        client = self.client
        return public_origin(client.scheme, client.host, backend.hidden, backend.prefix)

    def hints(self, given: Headers) -> Headers:
        """What of a 103 goes on: its Link headers, that is what hints are."""
        origin = self._origin(self.table.file.backends[self.decision.legacy])
        return [(name, origin.links(value)) for name, value in given if lowered(name) == "link"]

    def _apart(self, headers: Headers) -> Headers:
        """Two visitors may get two sides: no shared cache may mix them."""
        decision = self.decision
        if decision.conditions:
            headers = vary_on(headers, decision.conditions)
        if decision.split:
            headers = keep_apart(headers, decision.vary)
            if decision.set_key:
                secure = self.client.scheme == "https"
                headers.append(share_cookie(decision.set_key, secure=secure))
        return headers

    def copy(self, status: int, reason: str, headers: Headers) -> None:
        """Begin to copy an answer of legacy's for the shadow, where it is to be compared. The
        request has no body; `headers` are those for the visitor. What the bridge has added because
        others get the other side, or after a redirect, is no part of the page."""
        shadow = self.front.shadow
        if shadow is None:
            return
        if self._unadorned is not None:
            headers = vary_on(self._unadorned, self.decision.conditions)
        began, decision = self.outcome.started, self.decision
        try:
            self.copying = shadow.begin(
                self.table, self.head, self.client, decision, began, status, reason, headers
            )
        except Exception as error:  # the visitor gets the answer all the same
            log.error("cannot copy an answer", traceback=traceback_text(error))

    def options_here(self) -> Answered:
        """The answer to a request that goes no further than here."""
        self.outcome.backend = "bridge"
        return Answered(200, [OPTIONS_HERE])

    def page(self, status: int, error: str) -> Answered:
        """A page of the site's own, for an error that nobody else answers."""
        outcome = self.outcome
        outcome.error, outcome.backend = error, "bridge"
        own = self.table.page(outcome.site, status) if outcome.site else None
        html = pages.render(status, outcome.request_id, own)
        headers = [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")]
        if status == 503:
            headers.append(("Retry-After", "2"))
        return Answered(status, headers, html)

    def page_for(self, error: BaseException) -> Answered:
        """The page for whatever went wrong."""
        if isinstance(error, VisitorError):
            return self.page(error.status, error.reason)
        if isinstance(error, LegacyError):
            self.outcome.stage = error.stage
            return self.page(error.status, f"{error.stage}: {error}")
        request_id = self.outcome.request_id
        if isinstance(error, BridgeError):
            log.error("cannot serve", error=str(error), request_id=request_id)
            return self.page(500, str(error))
        log.error("bug in the proxy", request_id=request_id, traceback=traceback_text(error))
        return self.page(500, f"{type(error).__name__}: {error}")

    # (8) report

    def end(self) -> None:
        """The response is through, or was cut short."""
        outcome = self.outcome
        self._rounds = None  # it refers to us
        outcome.seconds = time.perf_counter() - outcome.started

    def report(self) -> None:
        """Tell the plug-ins, after `end`."""
        outcome = self.outcome
        if self.wanted:
            outcome.freshness = self.wanted.outcome or ""
        self.front.report_response(outcome)
        copying = self.copying
        if copying is not None:
            self.copying = None
            assert self.front.shadow is not None
            self.front.shadow.end(copying, outcome)


def refused(front: Front, peer: str, status: int, error: str) -> str:
    """Report what was no request, or none to read on from. Returns its id in the access log.

    peer: the address that it came from.
    status, error: what it was answered with, and why.
    """
    conversation = Conversation(front, "", peer)
    outcome = conversation.outcome
    outcome.status, outcome.error = status, error
    conversation.end()
    conversation.report()
    return outcome.request_id
