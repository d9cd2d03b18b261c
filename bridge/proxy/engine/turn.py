"""One request of a visitor: the steps of `bridge.proxy.conversation` on an event loop.

It is told what comes from the visitor and from legacy or a handler. It never waits: whatever
takes time calls back. Reading requests off a connection is `bridge.proxy.engine.visitor`'s,
their bodies `bridge.proxy.engine.arriving`'s, writing the answer `bridge.proxy.engine.reply`'s.
"""

from __future__ import annotations

import io
import sys
from typing import Any
from wsgiref.types import WSGIEnvironment
from wsgiref.util import FileWrapper

from bridge.errors import UseLegacy
from bridge.proxy.engine.answers import CONTINUE
from bridge.proxy.engine.arriving import Arriving
from bridge.proxy.engine.calls import NotFresh
from bridge.proxy.engine.exchange import Exchange
from bridge.proxy.engine.holding import Holding
from bridge.proxy.engine.reading import target_of
from bridge.proxy.engine.spool import Spool
from bridge.proxy.engine.upstream import LegacyConnection, Upstream
from bridge.proxy.gate import Question
from bridge.proxy.http.wire import ResponseHead, binds, content_length
from bridge.proxy.python.environ import caller_keys, header_keys, target_keys
from bridge.proxy.python.threads import PythonFailed
from bridge.proxy.request.forwarded import stranger
from bridge.proxy.request.head import Head, Headers, host_of
from bridge.proxy.routing.handlers import PARAMS

__all__ = ["Turn"]


_VERSIONS = ("1.0", "1.1")
_MARK = "\0"  # stands for the request's id in headers that are kept; no real header has a NUL
_NEVER_KNOWN = ("OPTIONS", "TRACE")  # their headers are not passed on as they are
_PATIENCE = 1.0  # seconds until a visitor who expects 100 gets it although legacy is silent


_BASE: dict[str, Any] = {
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": FileWrapper,
    "wsgi.input_terminated": True,
    "SERVER_SOFTWARE": "bridge",
}


class Turn(Arriving):
    """A request, from its head to the last byte of its answer."""

    __slots__ = ()

    # (2) to (4)

    def start(self, raw: str) -> None:
        """Take the request; `raw` is its target."""
        try:
            if not self.block.plain:
                # Whatever is refused from here on: these bytes are no next request.
                self._expect_body()
            self._start(raw)
        except Exception as error:
            self.own(self.conversation.page_for(error))

    def _start(self, raw: str) -> None:
        carrier, block, conversation = self.carrier, self.block, self.conversation
        target = target_of(self.method, raw)
        version = _VERSIONS[self.minor]
        host = block.host or host_of("", version, target, carrier.server)
        head = Head(
            self.method,
            target,
            host,
            block.headers,
            carrier.peer,
            carrier.scheme,
            version,
            block.jar,
            block.index,
        )
        conversation.take(head)
        table, known = conversation.table, self.known
        assert known is not None
        if target.authority or self.method in _NEVER_KNOWN or not block.host:
            self.known = None
            caller = self.engine.front.recognise(table, head)
            head = caller.admission.head
        elif (last := known.caller) is not None and last[0] is table and last[1] == self.minor:
            caller = last[2]
        else:
            caller = self.engine.front.recognise(table, head)
            known.caller = table, self.minor, caller
            known.lines.clear()
            known.environ = None
        conversation.accept(caller, head)
        if not block.plain:
            self._look_at_body()
        if caller.admission.final:
            self.own(conversation.options_here())
            return
        conversation.decide()
        if conversation.asks_python:
            self._ask_python()
        else:
            self.ask_legacy()

    # (5) Python

    def _ask_python(self) -> None:
        if self._size is None and self.body is None:
            self._run()
            return
        self._limit_body(self.conversation.max_handler_body)
        self.spool = Spool()
        if self.body is None:
            self._run()
        elif self._expects:
            self.outlet.write(CONTINUE)

    def spooled(self) -> None:
        """The handler starts when all of the body is here: no thread waits for a visitor."""
        self._run()

    def _run(self) -> None:
        try:
            self.conversation.ask_handler()
            self.source = self.engine.handlers.run(self, self._environ())
        except Exception as error:
            self.own(self.conversation.page_for(error))

    def _environ(self) -> WSGIEnvironment:
        conversation, spool, known = self.conversation, self.spool, self.known
        head, decision = conversation.head, conversation.decision
        environ: WSGIEnvironment = {
            **_BASE,
            "wsgi.errors": sys.stderr,
            "wsgi.input": spool.input() if spool else io.BytesIO(),
            "REQUEST_METHOD": head.method,
            "RAW_URI": head.target.raw,
            "SERVER_PROTOCOL": f"HTTP/{head.version}",
            PARAMS: dict(decision.params),
            "bridge.decision": decision,
            "bridge.generation": conversation.table.generation,
        }
        keys = known.environ if known is not None else None
        if keys is None:
            keys = header_keys(conversation.handler_headers())
            if (content_type := head.get("Content-Type")) is not None:
                keys["CONTENT_TYPE"] = content_type
            keys |= caller_keys(head, conversation.client)
            if known is not None:
                known.environ = keys
        environ.update(keys)
        environ["HTTP_X_REQUEST_ID"] = conversation.outcome.request_id
        if spool is not None:
            environ["CONTENT_LENGTH"] = str(spool.size)
        environ.update(target_keys(head, conversation.route.spec.mount or ""))
        return environ

    def on_answer(self, status: str, given: Headers, first: bytes, whole: bool) -> None:
        code, _, reason = status.partition(" ")
        number = int(code)
        headers = self.conversation.python_answer(number, given)
        length = content_length(headers)
        if number == 205:
            length = 0
        self.begin(number, reason, headers, length, first, whole)

    def on_failure(self, error: BaseException) -> None:
        """Legacy or the handler failed. A handler may leave the answer to legacy, which gets the
        body from its beginning."""
        conversation = self.conversation
        if self.answered:
            self.cut(f"{conversation.outcome.backend}: {error}")
            return
        if isinstance(error, NotFresh):
            conversation.not_fresh()
        elif not isinstance(error, (UseLegacy, PythonFailed)):
            self.own(conversation.page_for(error))
            return
        elif page := conversation.after_failure(error, taken=False):
            self.own(page)
            return
        self.source = None
        self.go_to_legacy()

    # (6) legacy

    def ask_legacy(self) -> None:
        conversation, block = self.conversation, self.block
        name = conversation.decision.legacy
        conversation.outcome.backend = name
        if not block.plain and self._waits_for_body(name):
            return
        known = self.known if block.plain else None
        lines = known.lines.get(name) if known is not None else None
        upgrade, framing, chunked, expects = "", "", None, False
        if not block.plain:
            upgrade = block.upgrade if self.method == "GET" and self.minor == 1 else ""
            expects = self._expects and self.body is not None and self.spool is None
            framing, chunked = self._framing()
        if lines is None:
            lines = self._lines(name, expect=expects, upgrade=upgrade)
            if known is not None:
                known.lines[name] = lines
        before, after, pool, binding = lines
        target = conversation.head.target.raw
        if pool.prefix and target != "*":
            target = pool.prefix + target
        request_id = conversation.outcome.request_id
        head = (
            f"{self.method} {target} HTTP/1.1\r\n{before}{request_id}{after}{framing}\r\n"
        ).encode("latin-1")
        exchange = self.exchange = self.source = Exchange(
            pool,
            self,
            self.method,
            head,
            chunked,
            conversation.outcome,
            self.carrier.bound,
            bool(upgrade),
            binding,
        )
        if not block.plain:
            self._begin_body(exchange, expects=expects)
        exchange.start()

    def _begin_body(self, exchange: Exchange, *, expects: bool) -> None:
        if self.spool is not None:
            self.spool.rewind()
        held, self.held = self.held, None
        if held is not None:
            self.engine.holding.discard(self)
        if expects:
            self.engine.loop.call_later(_PATIENCE, self._be_patient)
        # What is here goes first: a connection that is there at once asks for more of the body.
        for piece in held or ():
            exchange.send(piece)
        if self._size == 0 or (held is not None and self.body is None):
            exchange.finish()

    def go_to_legacy(self) -> None:
        try:
            self.ask_legacy()
        except Exception as error:
            self.own(self.conversation.page_for(error))

    @property
    def place(self) -> str:
        """From where the visitor comes, as places of legacy's are shared out."""
        return stranger(self.conversation.client.address)

    def _framing(self) -> tuple[str, bool | None]:
        """The header line that frames the body for legacy, and whether in chunks; None: no body."""
        if self.spool is not None:
            return f"Content-Length: {self.spool.size}\r\n", False
        if self._size is not None:
            return f"Content-Length: {self._size}\r\n", False
        if self.block.chunked:
            return "Transfer-Encoding: chunked\r\n", True
        return "", None

    def _lines(self, name: str, *, expect: bool, upgrade: str) -> tuple[str, str, Upstream, bool]:
        """The header lines for legacy before and after the request's id, the pool, and whether
        the request authenticates its connection."""
        headers = self.conversation.legacy_headers(request_id=_MARK, expect=expect, upgrade=upgrade)
        before, _, after = "".join([f"{n}: {v}\r\n" for n, v in headers]).partition(_MARK)
        pool = self.engine.upstreams.get(self.conversation.table, name)
        # Few requests have one, and the names of all the others need not be looked at.
        binding = self.conversation.head.get("Authorization") is not None and binds(headers)
        return before, after, pool, binding

    def _be_patient(self) -> None:
        if self._expects and not self.answered and not self.over and self.body is not None:
            self._expects = False
            self.outlet.write(CONTINUE)

    def on_room(self) -> None:
        spool, exchange = self.spool, self.exchange
        if spool is not None and exchange is not None:
            while not exchange.over and exchange.takes:
                piece = spool.read()
                if not piece:
                    exchange.finish()
                    spool.close()
                    self.spool = None
                    return
                exchange.send(piece)
        else:
            self.carrier.proceed()

    def on_interim(self, head: ResponseHead) -> None:
        if self.minor == 0 or self.answered:
            return
        if head.status == 100 and self._expects:
            self._expects = False
            self.outlet.write(CONTINUE)
        elif self.outlet.full:
            return  # nobody waits for hints that come later than the answer
        elif head.status == 103 and (hints := self.conversation.hints(head.headers)):
            lines = "".join(f"{name}: {value}\r\n" for name, value in hints)
            self.outlet.write(f"HTTP/1.1 103 Early Hints\r\n{lines}\r\n".encode("latin-1"))

    def on_head(
        self, head: ResponseHead, given: Headers, length: int | None, body: bytes, whole: bool
    ) -> None:
        exchange, marker = self.exchange, self.conversation.marker(head.status)
        assert exchange is not None
        if marker is None:
            self._on_head(head, given, length, body, whole)
            return

        def go_on(question: Question) -> None:
            self._on_head(head, given, length, body, whole, question)

        Holding(self.engine.loop, self, exchange, go_on).ask(marker)

    def _on_head(
        self,
        head: ResponseHead,
        given: Headers,
        length: int | None,
        body: bytes,
        whole: bool,
        question: Question | None = None,
    ) -> None:
        exchange, conversation = self.exchange, self.conversation
        assert exchange is not None
        client, decision = conversation.client, conversation.decision
        known: tuple[Headers, dict[Any, bytes]] | None = None
        place = None
        if question is None and not decision.split and not 300 < head.status < 309:
            # The same head from the same backend becomes the same head for visitors.
            # The table keeps the rules.
            rules = id(decision.rules)
            place = head, conversation.table, rules, decision.legacy, client.scheme, client.host
            known = self.engine.heads.get(place)
        if known is None:
            try:
                headers = conversation.legacy_answer(head.status, given, question)
            except Exception as error:
                exchange.cancel()
                self.own(conversation.page_for(error))
                return
            known = headers, {}
            if place is not None and not conversation.is_one_visitors:
                self.engine.keep_head(place, known)
        if self.block.plain and conversation.front.shadow is not None:
            conversation.copy(head.status, head.reason, known[0])
        self.begin(head.status, head.reason, known[0], length, body, whole, known[1])

    def on_tunnel(self, head: ResponseHead, connection: LegacyConnection, rest: bytes) -> None:
        exchange, conversation = self.exchange, self.conversation
        assert exchange is not None
        try:
            headers = conversation.legacy_answer(101, head.headers)
        except Exception as error:
            exchange.cancel()
            self.own(conversation.page_for(error))
            return
        exchange.let_go()
        given = ",".join(head.values("upgrade"))
        headers += [("Connection", "Upgrade"), ("Upgrade", given or "websocket")]
        conversation.outcome.status = 101
        self.answered = True
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        reason = head.reason or "Switching Protocols"
        self.outlet.write(f"HTTP/1.1 101 {reason}\r\n{lines}\r\n".encode("latin-1"))
        self.carrier.become(connection, rest, conversation.outcome, self.tunnel_over)
