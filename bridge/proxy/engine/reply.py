"""The answer to one request on its way to the visitor: head, body, end, or a cut.

How fast it goes is the visitor's matter: legacy, or the handler, is stopped and let go again.
What the headers say is decided elsewhere; the bytes are `bridge.proxy.engine.answers`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.proxy.conversation import Answered, Conversation
from bridge.proxy.engine.answers import answer_head, last_chunk
from bridge.proxy.http import pages
from bridge.proxy.http.wire import chunk, lowered
from bridge.proxy.request.head import Headers

if TYPE_CHECKING:
    from bridge.proxy.engine.calls import Call, Spool
    from bridge.proxy.engine.exchange import Exchange
    from bridge.proxy.engine.reading import Block, Body
    from bridge.proxy.engine.visitor import Visitor

__all__ = ["Reply"]


_BODILESS = (204, 304)
_HEADS = 8  # that are remembered for one head of legacy's


class Reply:
    """The answering half of a request. `answered`: its head is out; `over`: nothing more comes.

    `exchange` and `call` are who makes the answer, `body` is what of the request's is missing.
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
        "call",
        "conversation",
        "exchange",
        "held",
        "is_known",
        "method",
        "minor",
        "over",
        "spool",
        "visitor",
    )

    def __init__(self, visitor: Visitor, method: str, minor: int, block: Block) -> None:
        self.visitor, self.method, self.minor, self.block = visitor, method, minor, block
        self.conversation = Conversation(visitor.engine.front, method, visitor.peer)
        visitor.engine.batch.asking += 1
        self.exchange: Exchange | None = None
        self.call: Call | None = None
        self.spool: Spool | None = None
        self.held: list[bytes] | None = None  # of the request's body, before legacy is asked
        self.body: Body | None = None  # while it is not complete
        self.is_known = True  # what follows from the header block is that of other requests
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
        """Write the head, and as much of the body as is here; `whole` says that it is all.
        `heads` has the bytes of heads with the same status and headers."""
        if self.over:
            return
        visitor, minor = self.visitor, self.minor
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
            or visitor.engine.draining
            or not self.block.keeps[minor]
        )
        self._close, self._chunked = close, chunked
        self._left = 0 if bodiless else length
        date = visitor.engine.date
        key = minor, close, chunked, date
        head = heads.get(key) if heads is not None else None
        if head is None:
            head = answer_head(minor, status, reason, headers, date, close=close, chunked=chunked)
            if heads is not None:
                if len(heads) >= _HEADS:
                    heads.clear()  # those of seconds that are over
                heads[key] = head
        if bodiless:
            visitor.outlet.write_soon(head)
            self.finish([])
            return
        if first and length is not None:
            first = first[:length]  # a handler may make more than it has announced
        if first:
            outcome.sent += len(first)
            if self._left is not None:
                self._left -= len(first)
            head += chunk(first) if chunked else first
        if whole:
            visitor.outlet.write_soon(head)
            self.finish([])
        else:
            visitor.outlet.write(head)

    def pass_on_all(self, pieces: list[bytes]) -> None:
        """Pieces of the answer's body, each cut as it was made."""
        if len(pieces) == 1 or not self._chunked:
            self.pass_on(b"".join(pieces))
        elif not self.over:
            self.conversation.outcome.sent += sum(map(len, pieces))
            self.visitor.outlet.write(b"".join(map(chunk, pieces)))

    def pass_on(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self.over or not data:
            return
        if self._left is not None:
            data = data[: self._left]  # a handler may send more than it has announced
            self._left -= len(data)
            if not data:
                return
        self.conversation.outcome.sent += len(data)
        self.visitor.outlet.write(chunk(data) if self._chunked else data)

    def finish(self, trailers: Headers) -> None:
        """The answer is complete."""
        if self.over:
            return
        if self._left:
            self.cut(f"handler: body ended {self._left} bytes early")
            return
        if self._chunked:
            self.visitor.outlet.write(last_chunk(trailers))
        self._end()
        self.visitor.turn_over(keep=not self._close)

    def cut(self, reason: str) -> None:
        """The answer breaks off: the visitor must not take it for whole."""
        if self.over:
            return
        self.conversation.outcome.aborted = reason
        self._end()
        # Without a length or chunks a clean end of the connection would be the body's.
        self.visitor.break_off(reset=self._left is None and not self._chunked)

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
        self.visitor.engine.batch.asking -= 1
        # What refers to each other would wait for the garbage collector.
        if self.exchange is not None:
            self.exchange.cancel()
            self.exchange = None
        if self.call is not None:
            self.call.cancel()
            self.call = None
        if self.spool is not None:
            self.spool.close()
        if self.held is not None:
            self.held = None
            self.visitor.engine.let_go(self)
        self.conversation.end()
        self.visitor.engine.ended(self.conversation)

    # the visitor's speed

    def visitor_is_slow(self) -> None:
        if self.exchange is not None and self.answered:
            self.exchange.pause()

    def visitor_keeps_up(self) -> None:
        if self.exchange is not None and self.answered:
            self.exchange.resume()
        if self.call is not None:
            self.call.go_on()
