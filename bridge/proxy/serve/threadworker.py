"""`--engine thread`: gunicorn's gthread worker, made to answer as the event loop does.

No header of gunicorn's own reaches a visitor, its parser's refusals get our pages, and Cookie
lines are joined as browsers join them.
"""

from __future__ import annotations

import re
import signal
from typing import Any

import gunicorn.http.message
import gunicorn.http.wsgi
from gunicorn import util
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    InvalidChunkSize,
    InvalidRequestLine,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from bridge.proxy.conversation import refused
from bridge.proxy.engine.descriptors import raise_limit
from bridge.proxy.engine.reading import LONGEST_LINE
from bridge.proxy.http import pages
from bridge.proxy.http.wire import NO_TLS, TLS_HELLO, WireError, look_at_part
from bridge.proxy.request.head import Headers
from bridge.proxy.serve.engineworker import EARLY
from bridge.proxy.wsgi.dispatcher import Dispatcher

__all__ = ["BridgeWorker", "join_cookies"]

_LINGER = 2.0  # seconds that an ended connection is read on for, as gunicorn does
_LINGER_BYTES = 2**30
_DISCARDED = 32 * 1024  # bytes; gunicorn discards twice as many
_TARGET_INVALID = re.compile(r"[^\x21-\x7e\x80-\xff]")


class VisitorResponse(Response):  # type: ignore[misc]
    """gunicorn's response without its Server header, and with Date only where there is none."""

    def process_headers(self, headers: Headers) -> None:
        """Take Server and Date as any other header; gunicorn drops those of an application."""
        for name, value in headers:
            if name.lower() not in ("server", "date"):
                super().process_headers([(name, value)])
                continue
            super().process_headers([(f"X-{name}", value)])  # the same checks, another name
            self.headers[-1] = (name, self.headers[-1][1])

    def should_close(self) -> bool:
        # After a body that broke off, nobody knows where the next request would begin.
        failed = getattr(self.req.body, "failed", False)
        return failed or super().should_close()

    def default_headers(self) -> list[str]:
        if _is_unread(self.req):
            # It ends the connection, and that is to be said: what a visitor who does not know it
            # sends next would be lost.
            self.force_close()
        has_date = any(name.lower() == "date" for name, _ in self.headers)
        return [
            line
            for line in super().default_headers()
            if not line.startswith("Server:") and not (has_date and line.startswith("Date:"))
        ]


def _is_unread(request: Any) -> bool:
    """Whether so much of the request's body was taken by nobody, or may be still to come, that
    gunicorn does not read on until the next request."""
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        return reader.parser is not None
    return getattr(reader, "length", 0) > _DISCARDED


class VisitorChunks(ChunkedReader):  # type: ignore[misc]
    """gunicorn's reader of chunked bodies, which refuses at once what cannot become a line.
    gunicorn waits for its end, and so does whoever sent it."""

    _trailer = False

    def parse_trailers(self, unreader: Any, data: Any) -> Any:
        self._trailer = True
        return super().parse_trailers(unreader, data)

    def read_into(self, unreader: Any, buf: Any) -> None:
        try:
            look_at_part(bytes(buf).rpartition(b"\r\n")[2], trailer=self._trailer)
        except WireError as error:
            raise InvalidChunkSize(str(error).encode()) from None
        super().read_into(unreader, buf)


class VisitorRequest(Request):  # type: ignore[misc]
    """gunicorn's request, which knows a handshake of TLS when it sees one."""

    def read_line(self, unreader: Any, buf: Any, limit: int = 0) -> Any:
        if buf.startswith(TLS_HELLO):
            raise InvalidRequestLine(NO_TLS)
        return super().read_line(unreader, buf, limit)


class BridgeWorker(ThreadWorker):  # type: ignore[misc]
    """A gthread worker that reloads routes.yaml on SIGHUP, opens its access log anew on that and
    on SIGUSR1, and shows no sign of gunicorn."""

    def init_process(self) -> None:
        # gunicorn has no settings for these; this process serves nothing else.
        gunicorn.http.wsgi.Response = VisitorResponse
        gunicorn.http.message.ChunkedReader = VisitorChunks
        RequestParser.mesg_class = VisitorRequest
        # Links with raw UTF-8 or Latin-1 have always worked with Apache and nginx.
        gunicorn.http.message.RFC9112_TARGET_INVALID = _TARGET_INVALID
        raise_limit()
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        if isinstance(self.wsgi, Dispatcher):
            visitors = self.wsgi.front.table().file.visitors
            self.cfg.set("limit_request_line", min(visitors.request_line, LONGEST_LINE))
            self.cfg.set("limit_request_field_size", visitors.request_header)
            self.cfg.set("limit_request_fields", visitors.request_headers)

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, self._reload)
        signal.siginterrupt(signal.SIGHUP, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)

    def _reload(self, number: int, frame: Any) -> None:
        self.app.reload_routes()
        self.method_queue.defer(self.app.reopen_log)

    def handle_usr1(self, number: int, frame: Any) -> None:
        self.method_queue.defer(self.app.reopen_log)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Refuse new visitors from the moment of the stop: gunicorn keeps the port open until
        the last request is done, and whoever connects meanwhile would wait in vain."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def notify(self) -> None:
        super().notify()
        dispatcher = self.wsgi
        if isinstance(dispatcher, Dispatcher) and self.app.shows_now():
            handlers = dispatcher.threads.running
            self.app.show(self.nr_conns, dispatcher.in_flight, handlers, dispatcher.pools.all())

    def handle(self, conn: Any) -> Any:
        """Answer a request, and end the connection if it is not kept, in this thread: gunicorn
        ends it in the thread that accepts, which a visitor who stays could hold up."""
        kept = super().handle(conn)
        if not kept:
            # Reads on for a while: data that arrives at a closed socket resets the connection,
            # and an answer to somebody who still uploads would be lost.
            util.close_graceful(conn.sock, timeout=_LINGER, max_drain=_LINGER_BYTES)
            conn.close = lambda graceful=False: None
        return kept

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what gunicorn's parser refused, with a page that repeats nothing of it."""
        sent: list[bytes] = []

        class Probe:
            def sendall(self, data: bytes) -> None:
                sent.append(data)

            send = sendall

            def gettimeout(self) -> float:
                return 0.0

        super().handle_error(req, Probe(), addr, exc)
        first = b"".join(sent).split(b" ", 2)
        code = int(first[1]) if len(first) > 1 and first[1].isdigit() else 400
        if isinstance(exc, UnsupportedTransferCoding):
            code = 400  # like every other framing that two parsers could read differently
        dispatcher = self.wsgi
        request_id = "–"
        if isinstance(dispatcher, Dispatcher):
            request_id = refused(dispatcher.front, addr[0] if addr else "", code, str(exc))
        html = pages.render(code, request_id)
        head = (
            f"HTTP/1.1 {code} {pages.phrase(code)}\r\nDate: {util.http_date()}\r\n"
            "Connection: close\r\nContent-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(html)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + html)
        except OSError:
            self.log.debug("The visitor left before the error page.")


def join_cookies(worker: BridgeWorker, request: Any) -> None:
    """One Cookie line of several, as RFC 9113, section 8.2.3, joins them; gunicorn uses `,`."""
    lines = [value for name, value in request.headers if name == "COOKIE"]
    if len(lines) > 1:
        joined, others = "; ".join(lines), []
        for name, value in request.headers:
            if name != "COOKIE":
                others.append((name, value))
            elif joined:
                others.append((name, joined))
                joined = ""
        request.headers = others
