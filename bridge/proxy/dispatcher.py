"""The WSGI shell: one application that answers every request of the site.

Steps of a request: (1) capture the table, (2) read the head, (3) refuse what cannot be
answered, (4) decide, (5) let Python answer, (6) else legacy, (7) apply the response rules,
(8) stream the body and report the outcome. Everything that is decided here is decided by the
pure modules beside this one; this one does the I/O between them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog

from bridge.errors import BridgeError, LegacyError, UseLegacy, VisitorError
from bridge.logs import traceback_text
from bridge.proxy import pages
from bridge.proxy.admission import Admission, admit
from bridge.proxy.body import ReportedBody, content_length
from bridge.proxy.decide import PYTHON, Decision, decide, site_of
from bridge.proxy.gate import FRESHNESS, Gate, Wanted, end_when_settled
from bridge.proxy.handlers import PARAMS
from bridge.proxy.headers import (
    PublicOrigin,
    apply_site_rules,
    from_handler,
    hide_cookie,
    keep_apart,
    share_cookie,
    to_legacy,
    to_visitor,
)
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.legacy import Exchange, LegacyPool
from bridge.proxy.pythonside import Answer, HandlerThreads, PythonFailed, ReplayableInput
from bridge.proxy.routes import RouteTable
from bridge.proxy.upload import RequestBody
from bridge.proxy.wsgi import body_of, cut_off, environ_for_handler, head_of

__all__ = ["Dispatcher"]

log = structlog.get_logger("bridge.proxy")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_DRAWN = 256  # requests for which random digits are drawn at once
_FAILED_STATUS = {"python-busy": 503, "python-timeout": 504}


class Dispatcher:
    """A WSGI application over the routing table that `table` returns.

    `secret` verifies preview cookies and names this bridge in its loop guard. At most
    `handler_threads` handlers run at a time. `exact_cookies` says that the server joins Cookie
    lines with `; ` (`bridge serve` does). `gate` keeps visitors from missing their own edits.
    """

    def __init__(
        self,
        table: Callable[[], RouteTable],
        *,
        secret: str = "",
        hooks: Sequence[Hooks] = (),
        handler_threads: int = 16,
        exact_cookies: bool = False,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._secret = secret
        self._hooks = tuple(hooks)
        self._threads = HandlerThreads(handler_threads)
        self._exact_cookies = exact_cookies
        self._gate = gate
        self._clock = clock
        self._pools: dict[str, LegacyPool] = {}
        self._pools_of: RouteTable | None = None
        self._pools_lock = threading.Lock()
        self._digits: list[str] = []
        os.register_at_fork(after_in_child=self._digits.clear)  # no two processes share an id
        self._hop = hashlib.sha256((secret or secrets.token_hex()).encode()).hexdigest()[:8]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # (1) One table from the first byte to the last, whatever is reloaded meanwhile.
        table = self._table()
        digits = self._fresh_digits()
        outcome = Outcome(
            request_id=digits[:16],
            generation=table.generation,
            digest=table.digest,
            method=environ.get("REQUEST_METHOD", ""),
            started=time.perf_counter(),
        )
        request = _Request(self, table, outcome, digits[16:], environ, start_response)
        try:
            return request.answer()
        except VisitorError as error:
            return request.page(error.status, error.reason)
        except LegacyError as error:
            return request.page(error.status, f"{error.stage}: {error}")
        except BridgeError as error:
            log.error("cannot serve", error=str(error), request_id=outcome.request_id)
            return request.page(500, str(error))
        except Exception as error:
            log.error(
                "bug in the proxy", request_id=outcome.request_id, traceback=traceback_text(error)
            )
            return request.page(500, f"{type(error).__name__}: {error}")

    def _fresh_digits(self) -> str:
        """40 random hex digits for one request; drawn for many at once. A call of the system
        for each would let another thread have the interpreter, which costs 4% of the requests/s.
        """
        try:
            return self._digits.pop()
        except IndexError:
            drawn = secrets.token_hex(20 * _DRAWN)
            ours, *others = (drawn[at : at + 40] for at in range(0, len(drawn), 40))
            self._digits.extend(others)
            return ours

    def pool(self, table: RouteTable, name: str) -> LegacyPool:
        """The pool of connections to the backend `name`, as `table` configures it."""
        if table is not self._pools_of:
            self._adopt(table)
        pool, spec = self._pools.get(name), table.file.backends[name]
        if pool is None or (pool.spec is not spec and pool.spec != spec):
            # A request that still runs on an older table, whose backend is configured otherwise.
            pool = LegacyPool(name, spec)
            pool.close()
        return pool

    def _adopt(self, table: RouteTable) -> None:
        """Make pools for a new table; what is configured as before keeps its connections."""
        with self._pools_lock:
            current = self._pools_of
            if current is not None and table.generation <= current.generation:
                return
            old, new = self._pools, {}
            for name, spec in table.file.backends.items():
                kept = old.get(name)
                if kept is not None and kept.spec == spec:
                    kept.spec = spec
                    new[name] = kept
                else:
                    new[name] = LegacyPool(name, spec)
            self._pools, self._pools_of = new, table
        for name, pool in old.items():
            if new.get(name) is not pool:
                pool.close()

    def report(self, hook: str, *arguments: object) -> None:
        """Call one hook of every plug-in."""
        for hooks in self._hooks:
            try:
                getattr(hooks, hook)(*arguments)
            except Exception as error:
                plugin = type(hooks).__name__
                log.error("hook failed", hook=hook, plugin=plugin, traceback=traceback_text(error))


class _Request:
    """One request on its way through the steps."""

    def __init__(
        self,
        shell: Dispatcher,
        table: RouteTable,
        outcome: Outcome,
        fresh_key: str,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self.shell, self.table, self.outcome, self.fresh_key = shell, table, outcome, fresh_key
        self.environ, self.start_response = environ, start_response
        self.wanted: Wanted | None = None

    def answer(self) -> Iterable[bytes]:
        outcome, table, shell = self.outcome, self.table, self.shell
        # (2)
        head = head_of(self.environ, exact_cookies=shell._exact_cookies)
        outcome.host = head.host
        outcome.path = head.target.raw.partition("?")[0]
        outcome.client = head.peer
        # (3)
        admission = admit(head, shell._hop)
        self.head = head = admission.head
        self.client = table.trusted.client(head)
        outcome.client = self.client.address
        self.trusted_peer = head.peer in table.trusted
        if self.trusted_peer and _REQUEST_ID.fullmatch(head.get("X-Request-Id") or ""):
            outcome.request_id = head.get("X-Request-Id") or ""
        outcome.site = site_of(table, head)
        body = body_of(self.environ, table.file.sites[outcome.site].max_body)
        if admission.final:
            return self.own(200, b"", [("Allow", "GET, HEAD, OPTIONS, POST")])
        # (4)
        decision = decide(table, head, self.client, shell._clock(), self.fresh_key, shell._secret)
        outcome.site, outcome.reason, outcome.detail = (
            decision.site,
            decision.reason,
            decision.detail,
        )
        outcome.route = decision.route.name if decision.route else ""
        shell.report("on_decision", head, decision)
        # (5)
        if decision.python:
            answered, body = self.python(admission, decision, body)
            if answered is not None:
                return answered
        # (6)
        return self.legacy(admission, decision, body)

    # (5) Python

    def python(
        self, admission: Admission, decision: Decision, body: RequestBody | None
    ) -> tuple[Iterable[bytes] | None, RequestBody | None]:
        """Python's answer; or None and the body from its beginning, for legacy to answer."""
        route, outcome, head = decision.route, self.outcome, self.head
        assert route is not None
        assert route.app is not None
        headers = self.request_headers(admission)
        gate = self.shell._gate
        if gate and (found := [value for name, value in head.cookies() if name == gate.cookie]):
            self.wanted = gate.wanted(found)
            headers = hide_cookie(headers, gate.cookie)
            if self.wanted and not gate.ensure(self.wanted, route.spec.reads):
                self.falls_back(FRESHNESS, f"not yet in MongoDB, of {route.spec.reads}")
                return None, body
        stream = (
            ReplayableInput(body.stream, body.length)
            if body
            else ReplayableInput(self.environ["wsgi.input"], 0)
        )
        environ = environ_for_handler(
            self.environ,
            head,
            headers,
            self.client,
            route.spec.mount or "",
            stream,
        )
        environ[PARAMS] = decision.params
        environ["bridge.decision"] = decision
        environ["bridge.generation"] = self.table.generation
        again = head.method in ("GET", "HEAD") and route.spec.fallback
        outcome.backend = PYTHON
        try:
            answer = self.shell._threads.run(
                route.app,
                environ,
                route.spec.timeout,
                lambda: stream.seconds_waited,
                self.wanted.context() if self.wanted else None,
            )
            status = int(answer.status[:3])
            if status >= 500 and again:
                answer.close()
                raise PythonFailed("python-5xx", f"the handler answered {answer.status}")
        except UseLegacy as declined:
            if stream.taken:
                outcome.error = "declined after reading more of the body than can be replayed"
                return self.page(500, outcome.error), None
            fresh = declined.reason == FRESHNESS
            self.falls_back(FRESHNESS if fresh else "declined", declined.reason)
        except PythonFailed as failed:
            if failed.cause is not None:
                log.error(
                    "handler failed",
                    route=route.name,
                    request_id=outcome.request_id,
                    traceback=traceback_text(failed.cause),
                )
            # A handler that never started has written nothing, so legacy may have any method.
            if not again and not (failed.reason == "python-busy" and route.spec.fallback):
                stream.detach()
                outcome.reason = failed.reason
                return self.page(_FAILED_STATUS.get(failed.reason, 500), str(failed)), None
            if failed.reason == "python-timeout":
                stream.detach()
            # Frameworks make an error page of the exception that Store raises.
            refused = self.wanted is not None and self.wanted.refused
            self.falls_back(FRESHNESS if refused else failed.reason, failed.detail)
        else:
            return self.send_answer(decision, answer), None
        return None, replace(body, stream=stream.replay()) if body else None

    def falls_back(self, reason: str, detail: str) -> None:
        self.outcome.fallback, self.outcome.fallback_detail = reason, detail

    def send_answer(self, decision: Decision, answer: Answer) -> Iterable[bytes]:
        headers = self.response_rules(from_handler(answer.headers), decision)
        if (gate := self.shell._gate) and self.wanted:
            headers = end_when_settled(headers, gate, self.wanted, self.head, self.shell._clock())
        status = int(answer.status[:3])
        if status == 205:
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Content-Length", "0"))
        if self.head.method == "HEAD" or status in (204, 205, 304):
            return self.send(answer.status, headers, iter(()), answer.close)
        length = content_length(headers)
        return self.send(answer.status, headers, iter(answer), answer.close, length)

    # (6) legacy

    def request_headers(self, admission: Admission, **rules: Any) -> list[tuple[str, str]]:
        return to_legacy(
            self.head,
            self.client,
            trusted_peer=self.trusted_peer,
            request_id=self.outcome.request_id,
            hops=admission.hops,
            **rules,
        )

    def legacy(
        self, admission: Admission, decision: Decision, body: RequestBody | None
    ) -> Iterable[bytes]:
        self.outcome.backend = decision.legacy
        backend = self.table.file.backends[decision.legacy]
        pool = self.shell.pool(self.table, decision.legacy)
        host = None if backend.host == "preserve" else backend.host
        exchange = pool.exchange(
            self.head.method,
            self.head.target.raw,
            self.request_headers(admission, host=host, via=backend.via),
            body,
            self.environ.get("wsgi.early_hints"),
        )
        origin = PublicOrigin(self.client.scheme, self.client.host, pool.hidden, pool.prefix)
        headers = to_visitor(exchange.headers, origin, accel=backend.accel)
        return self.send(
            f"{exchange.status} {exchange.reason}",
            self.response_rules(headers, decision),
            _flushing(exchange),
            exchange.close,
        )

    # (7) response rules

    def response_rules(
        self, headers: list[tuple[str, str]], decision: Decision
    ) -> list[tuple[str, str]]:
        headers = apply_site_rules(headers, self.table.file.sites[decision.site].response_headers)
        if decision.split:
            headers = keep_apart(headers, decision.vary)
            if decision.set_key:
                secure = self.client.scheme == "https"
                headers.append(share_cookie(decision.set_key, secure=secure))
        return headers

    def page(self, status: int, error: str) -> Iterable[bytes]:
        """A page of the site's own, for an error that nobody else answers."""
        self.outcome.error = error
        own = self.table.page(self.outcome.site, status) if self.outcome.site else None
        html = pages.render(status, self.outcome.request_id, own)
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
        ]
        if status == 503:
            headers.append(("Retry-After", "2"))
        return self.own(status, html, headers)

    def own(self, status: int, html: bytes, headers: list[tuple[str, str]]) -> Iterable[bytes]:
        self.outcome.backend = "bridge"
        headers.append(("Content-Length", str(len(html))))
        body = () if self.outcome.method == "HEAD" or not html else (html,)
        return self.send(f"{status} {pages.phrase(status)}", headers, iter(body), None)

    # (8) stream and report

    def send(
        self,
        status: str,
        headers: list[tuple[str, str]],
        pieces: Iterator[bytes],
        close: Callable[[], None] | None,
        length: int | None = None,
    ) -> Iterable[bytes]:
        self.outcome.status = int(status[:3])
        self.start_response(status, headers)
        by_end = self.environ.get("SERVER_PROTOCOL") == "HTTP/1.0" and not any(
            name.lower() == "content-length" for name, _ in headers
        )
        return ReportedBody(
            self.outcome,
            pieces,
            self.report,
            close=close,
            cut_off=partial(cut_off, self.environ) if by_end else None,
            length=length,
        )

    def report(self, outcome: Outcome) -> None:
        outcome.seconds = time.perf_counter() - outcome.started
        if self.wanted:
            outcome.freshness = self.wanted.outcome or ""
        self.shell.report("after_response", outcome)


def _flushing(exchange: Exchange) -> Iterator[bytes]:
    # An empty piece makes the server send the headers at once when the body is still to come.
    if exchange.waiting:
        yield b""
    yield from exchange
