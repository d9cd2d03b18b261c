"""The answer to one request on its way to the visitor: head, body, end, or a cut.

How fast it goes is the visitor's matter: legacy, or the handler, is stopped and let go again.
What the headers say is decided elsewhere; the bytes are `bridge.proxy.engine.answers`'s.
"""

from __future__ import annotations

from typing import Any

from bridge.proxy.conversation import Answered
from bridge.proxy.engine.answers import answer_head, last_chunk
from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.exchange import Exchange
from bridge.proxy.engine.ports import Carrier, Source
from bridge.proxy.engine.reading import Block, Body
from bridge.proxy.engine.spool import Spool
from bridge.proxy.engine.upstream import Upstream
from bridge.proxy.front import Caller
from bridge.proxy.http import pages
from bridge.proxy.http.wire import chunk, lowered
from bridge.proxy.request.head import Headers
from bridge.proxy.routing.table import RouteTable

__all__ = ["Known", "Reply"]

_BODILESS = (204, 304)
_HEADS = 8  # that are remembered for one head of legacy's


class Known:
    """What follows from a header block. Browsers send the same one again and again on a
    connection: `caller` for one table and minor version, `lines` by backend (those for it, before
    and after the request's id; its pool; whether the request authenticates its connection), and
    `environ`, what handlers get of it."""

    __slots__ = ("caller", "environ", "lines")

    def __init__(self) -> None:
        self.caller: tuple[RouteTable, int, Caller] | None = None
        self.lines: dict[str, tuple[str, str, Upstream, bool]] = {}
        self.environ: dict[str, str] | None = None


class Reply:
    """The answering half of a request. `answered`: its head is out; `over`: nothing more comes.

    engine: what all connections share.
    carrier: the connection that the request came on.
    block, known: the lines of its head, and what follows from them.

    `source` makes the answer, `exchange` is how legacy is asked. `body` is what of the request's is
    missing; of what is here, `held` waits until legacy is asked, and `spool` is for a handler.
    """

    __slots__ = (
        "_chunked",
        "_close",
        "_expects",
        "_left",
        "_size",
        "answered",
        "block",
        "body",
        "carrier",
        "conversation",
        "engine",
        "exchange",
        "held",
        "known",
        "method",
        "minor",
        "outlet",
        "over",
        "source",
        "spool",
    )

    def __init__(
        self, engine: Engine, carrier: Carrier, method: str, minor: int, block: Block, known: Known
    ) -> None:
        self.known: Known | None = known
        self.engine, self.carrier, self.outlet = engine, carrier, carrier.outlet
        self.method, self.minor, self.block = method, minor, block
        self.conversation = engine.began(method, carrier.peer)
        self.source: Source | None = None
        self.exchange: Exchange | None = None
        self.spool: Spool | None = None
        self.held: list[bytes] | None = None
        self.body: Body | None = None  # while it is not complete
        self.answered = self.over = False
        self._chunked = self._close = self._expects = False
        self._left: int | None = None  # of an announced body of the answer
        self._size: int | None = None  # of the body of the request, in bytes

    # (7) and (8) the answer

    def own(self, page: Answered) -> None:
        """Answer with something of our own."""
        if self.over:
            return
        headers = [*page.headers, ("Content-Length", str(len(page.body)))]
        reason = pages.phrase(page.status)
        self.begin(page.status, reason, headers, len(page.body), page.body, True)

    def begin(
        self,
        status: int,
        reason: str,
        headers: Headers,
        length: int | None,
        first: bytes = b"",
        whole: bool = False,
        heads: dict[Any, bytes] | None = None,
    ) -> None:
        """Write the head, and as much of the body as is here.

        length: bytes of body to follow; None: it is not known.
        first, whole: what is here of it, and whether that is all.
        heads: has the bytes of heads with the same status and headers.
        """
        if self.over:
            return
        engine, outlet, minor = self.engine, self.outlet, self.minor
        outcome = self.conversation.outcome
        outcome.status = status
        self.answered = True
        bodiless = self.method == "HEAD" or status in _BODILESS
        chunked = not bodiless and length is None and minor == 1
        if status == 204:  # RFC 9110, section 8.6
            headers = [pair for pair in headers if lowered(pair[0]) != "content-length"]
        ends = not bodiless and length is None and not chunked
        close = (
            ends
            or self.method == "CONNECT"
            or self.body is not None
            or engine.draining
            or not self.block.keeps[minor]
        )
        self._close, self._chunked = close, chunked
        self._left = 0 if bodiless else length
        date = engine.date
        key = minor, close, chunked, date
        head = heads.get(key) if heads is not None else None
        if head is None:
            head = answer_head(minor, status, reason, headers, date, close=close, chunked=chunked)
            if heads is not None:
                if len(heads) >= _HEADS:
                    heads.clear()  # those of seconds that are over
                heads[key] = head
        if bodiless:
            outlet.write_soon(head)
            self.on_end([])
            return
        if first and length is not None:
            first = first[:length]  # a handler may make more than it has announced
        if first:
            outcome.sent += len(first)
            if (copying := self.conversation.copying) is not None:
                copying.take(first)
            if self._left is not None:
                self._left -= len(first)
            head += chunk(first) if chunked else first
        if whole:
            outlet.write_soon(head)
            self.on_end([])
        else:
            outlet.write(head)

    def on_pieces(self, pieces: list[bytes]) -> None:
        """Pieces of the answer's body, each cut as it was made."""
        if len(pieces) == 1 or not self._chunked:
            self.on_body(b"".join(pieces))
        elif not self.over:
            self.conversation.outcome.sent += sum(map(len, pieces))
            self.outlet.write(b"".join(map(chunk, pieces)))

    def on_body(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self.over or not data:
            return
        if self._left is not None:
            data = data[: self._left]  # a handler may send more than it has announced
            self._left -= len(data)
            if not data:
                return
        conversation = self.conversation
        conversation.outcome.sent += len(data)
        if conversation.copying is not None:
            conversation.copying.take(data)
        self.outlet.write(chunk(data) if self._chunked else data)

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        if self.over:
            return
        if self._left:
            self.cut(f"handler: body ended {self._left} bytes early")
            return
        if self._chunked:
            self.outlet.write(last_chunk(trailers))
        self._end()
        self.carrier.turn_over(keep=not self._close)

    def cut(self, reason: str) -> None:
        """The answer breaks off: the visitor must not take it for whole."""
        if self.over:
            return
        self.conversation.outcome.aborted = reason
        self._end()
        # Without a length or chunks a clean end of the connection would be the body's.
        self.carrier.break_off(reset=self._left is None and not self._chunked)

    def lost(self, reason: str = "visitor left") -> None:
        """The visitor is gone, or was let go for this reason."""
        if self.over:
            return
        outcome = self.conversation.outcome
        if self.body is not None and not self.answered:
            outcome.backend, outcome.error = "bridge", self.body.missing
            outcome.status = 400
        else:
            outcome.aborted = reason
            outcome.status = outcome.status or 499
        self._end()

    def tunnel_over(self) -> None:
        """One of the two sides has ended the tunnel."""
        if not self.over:
            self._end()

    def _end(self) -> None:
        self.over = True
        # What refers to each other would wait for the garbage collector.
        source, self.source, self.exchange = self.source, None, None
        if source is not None:
            source.cancel()
        if not self.block.plain:
            self._drop_body()
        self.conversation.end()
        self.engine.ended(self.conversation)

    def _drop_body(self) -> None:
        """Nobody wants what is here of the request's body."""
        raise NotImplementedError

    # the visitor's speed

    @property
    def full(self) -> bool:
        """Whether the visitor takes nothing now."""
        return self.outlet.full

    def visitor_is_slow(self) -> None:
        if self.source is not None and self.answered:
            self.source.pause()

    def visitor_keeps_up(self) -> None:
        if self.source is not None and self.answered:
            self.source.resume()
