"""The WSGI shell: one application that answers every request of the site.

The steps of a request are `bridge.proxy.conversation`'s; this does the I/O between them, blocking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from wsgiref.types import StartResponse, WSGIEnvironment

from bridge.errors import UseLegacy
from bridge.proxy.conversation import Answered, Conversation
from bridge.proxy.front import Front
from bridge.proxy.gate import ask
from bridge.proxy.hooks import Outcome
from bridge.proxy.http import pages
from bridge.proxy.http.wire import content_length
from bridge.proxy.pools import Pools
from bridge.proxy.python.environ import environ_for_handler
from bridge.proxy.python.threads import Answer, HandlerThreads, PythonFailed
from bridge.proxy.request.head import Headers
from bridge.proxy.routing.handlers import PARAMS
from bridge.proxy.shadow.tap import Copying
from bridge.proxy.wsgi.body import ReportedBody
from bridge.proxy.wsgi.environ import body_of, cut_off, head_of, limited
from bridge.proxy.wsgi.legacy import Exchange, LegacyPool
from bridge.proxy.wsgi.replay import ReplayableInput
from bridge.proxy.wsgi.upload import RequestBody
from bridge.reasons import Reason

__all__ = ["Dispatcher"]


class Dispatcher:
    """A WSGI application on what all requests share; at most `handler_threads` handlers run at a
    time."""

    def __init__(self, front: Front, handler_threads: int = 16) -> None:
        self.front, self.threads = front, HandlerThreads(handler_threads)
        self.pools: Pools[LegacyPool] = Pools(LegacyPool)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # (1)
        method, peer = environ.get("REQUEST_METHOD", ""), environ.get("REMOTE_ADDR", "")
        conversation = Conversation(self.front, method, peer)
        request = _Request(self, conversation, environ, start_response)
        try:
            return request.answer()
        except Exception as error:
            return request.own(conversation.page_for(error))


class _Request:
    """One request on its way through the steps."""

    def __init__(
        self,
        shell: Dispatcher,
        conversation: Conversation,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self.shell, self.conversation = shell, conversation
        self.environ, self.start_response = environ, start_response

    def answer(self) -> Iterable[bytes]:
        conversation = self.conversation
        # (2)
        head = head_of(self.environ)
        conversation.take(head)
        # (3)
        caller = self.shell.front.recognise(conversation.table, head)
        conversation.accept(caller, caller.admission.head)
        visitors = conversation.table.file.visitors
        body = body_of(self.environ, conversation.max_body, silence=visitors.body)
        if caller.admission.final:
            return self.own(conversation.options_here())
        # (4)
        conversation.decide()
        # (5)
        if conversation.asks_python:
            answered, body = self.python(limited(body, conversation.max_handler_body))
            if answered is not None:
                return answered
        # (6)
        return self.legacy(body)

    # (5) Python

    def python(self, body: RequestBody | None) -> tuple[Iterable[bytes] | None, RequestBody | None]:
        """Python's answer; or None and the body from its beginning, for legacy to answer."""
        conversation = self.conversation
        route = conversation.route
        conversation.ask_handler()
        headers = conversation.handler_headers()
        if conversation.needs_fresh and not conversation.is_fresh():
            conversation.not_fresh()
            return None, body
        stream = (
            ReplayableInput(body.stream, body.length)
            if body
            else ReplayableInput(self.environ["wsgi.input"], 0)
        )
        environ = environ_for_handler(
            self.environ,
            conversation.head,
            headers,
            conversation.client,
            route.spec.mount or "",
            stream,
        )
        environ[PARAMS] = dict(conversation.decision.params)
        environ["bridge.decision"] = conversation.decision
        environ["bridge.generation"] = conversation.table.generation
        wanted = conversation.wanted
        assert route.app is not None
        try:
            answer = self.shell.threads.run(
                route.app,
                environ,
                route.spec.timeout,
                lambda: stream.seconds_waited,
                wanted.context() if wanted else None,
                conversation.press,
            )
            try:
                conversation.check_status(answer.status, taken=stream.taken)
            except (UseLegacy, PythonFailed):
                answer.close()
                raise
        except (UseLegacy, PythonFailed) as error:
            page = conversation.after_failure(error, taken=stream.taken)
            late = isinstance(error, PythonFailed) and error.reason == Reason.PYTHON_TIMEOUT
            if late or (page and isinstance(error, PythonFailed)):
                stream.detach()
            if page:
                return self.own(page), None
            return None, replace(body, stream=stream.replay()) if body else None
        return self.send_answer(answer), None

    def send_answer(self, answer: Answer) -> Iterable[bytes]:
        """A handler's answer; the handler is let go when the server refuses its head."""
        status = int(answer.status[:3])
        try:
            headers = self.conversation.python_answer(status, answer.headers)
            if self.conversation.head.method == "HEAD" or status in (204, 205, 304):
                return self.send(answer.status, headers, iter(()), answer.close)
            length = content_length(headers)
            return self.send(answer.status, headers, iter(answer), answer.close, length)
        except BaseException:
            answer.close()
            raise

    # (6) legacy

    def legacy(self, body: RequestBody | None) -> Iterable[bytes]:
        conversation = self.conversation
        head, name = conversation.head, conversation.decision.legacy
        conversation.outcome.backend = name
        pool = self.shell.pools.get(conversation.table, name)
        exchange = pool.exchange(
            head.method,
            head.target.raw,
            conversation.legacy_headers(),
            body,
            self.environ.get("wsgi.early_hints"),
            conversation.outcome,
        )
        try:
            marker = conversation.marker(exchange.status)
            question = ask(marker) if marker is not None else None
            headers = conversation.legacy_answer(exchange.status, exchange.headers, question)
            status = f"{exchange.status} {exchange.reason}"
            pieces = _flushing(exchange)
            if body is None:
                conversation.copy(exchange.status, exchange.reason, headers)
                if (copying := conversation.copying) is not None:
                    pieces = _copied(pieces, copying)
            return self.send(status, headers, pieces, exchange.close)
        except BaseException:
            exchange.close()  # nobody else would: its place would be taken for good
            raise

    def own(self, page: Answered) -> Iterable[bytes]:
        """An answer of our own."""
        headers = [*page.headers, ("Content-Length", str(len(page.body)))]
        body = () if self.conversation.outcome.method == "HEAD" or not page.body else (page.body,)
        return self.send(f"{page.status} {pages.phrase(page.status)}", headers, iter(body), None)

    # (8) stream and report

    def send(
        self,
        status: str,
        headers: Headers,
        pieces: Iterator[bytes],
        close: Callable[[], None] | None,
        length: int | None = None,
    ) -> Iterable[bytes]:
        outcome = self.conversation.outcome
        outcome.status = int(status[:3])
        self.start_response(status, headers)
        by_end = self.environ.get("SERVER_PROTOCOL") == "HTTP/1.0" and not any(
            name.lower() == "content-length" for name, _ in headers
        )
        return ReportedBody(
            outcome,
            pieces,
            self.report,
            close=close,
            cut_off=partial(cut_off, self.environ) if by_end else None,
            length=length,
        )

    def report(self, outcome: Outcome) -> None:
        self.conversation.end()
        self.conversation.report()


def _copied(pieces: Iterator[bytes], copying: Copying) -> Iterator[bytes]:
    for piece in pieces:
        if piece:
            copying.take(piece)
        yield piece


def _flushing(exchange: Exchange) -> Iterator[bytes]:
    # An empty piece makes the server send the headers at once when the body is still to come.
    if exchange.waiting:
        yield b""
    yield from exchange
