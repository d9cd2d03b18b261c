"""What has to hold for any bytes from a visitor, and for any bytes from legacy.

Both checks run the whole engine (`wired`) and read what it writes with a strict reader of their
own (`oracle`). They are used with made-up bytes by hypothesis and by a coverage-guided fuzzer.
"""

from __future__ import annotations

import http.client
import io
import itertools
import socket
from typing import Any, cast

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from bridge.proxy.engine.answers import CONTINUE
from bridge.proxy.engine.visitor import Visitor
from tests.proxy.engine.oracle import Message, answers_in, requests_in
from tests.proxy.engine.wired import Wire, Wired

__all__ = ["GARBAGE_STATUS", "check_answer", "check_request", "http_client_reads", "others_read"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Legacy: 1\r\n\r\nlegacy"
GARBAGE_STATUS = frozenset((400, 405, 408, 413, 414, 417, 421, 431, 501, 505, 508))
_CONFIG = Config()


def pieces_of(raw: bytes, cuts: list[int]) -> list[bytes]:
    """`raw` in pieces that end at `cuts`."""
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


def others_read(raw: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bool]:
    """Method, target and body of the requests that gunicorn's own parser finds in `raw`, up to
    the first that it refuses or that is not complete; and whether it has read everything."""
    found: list[tuple[bytes, bytes, bytes]] = []
    parser: Any = RequestParser(_CONFIG, iter([raw]), ("192.0.2.7", 4711))
    try:
        for request in parser:
            length = [value for name, value in request.headers if name == "CONTENT-LENGTH"]
            body = request.body.read()
            if length and len(body) < int(length[0]):
                return found, False
            found.append((request.method.encode("latin-1"), request.uri.encode("latin-1"), body))
    except StopIteration:
        return found, True
    except Exception:
        return found, False
    return found, True


def check_request(
    wired: Wired, raw: bytes, cuts: list[int], *, sends_no_more: bool = False
) -> list[Message]:
    """Send `raw` as a visitor; return the requests that legacy saw. With `sends_no_more` the
    visitor half-closes the connection before legacy answers anything.

    Raises AssertionError or Malformed where: the engine fails; what it sends to legacy is not
    one well-framed request at a time; an answer is not one well-framed answer; legacy saw a
    request that was not answered, or other bytes than another parser reads in `raw`.
    """
    wired.fresh()
    visitor, wire = wired.visit()
    answered: dict[int, int] = {}
    seen: list[Message] = []
    for piece in [raw] if sends_no_more else pieces_of(raw, cuts):
        if wire.closed:
            break
        visitor.data_received(piece)
        if sends_no_more:
            _half_close(visitor, wire)
        progress = True
        while progress:
            progress = False
            for number, legacy in enumerate(list(wired.legacy)):
                requests, rest = requests_in(bytes(legacy.wire.out))
                done = answered.get(number, 0)
                assert len(requests) - done <= 1, "two requests on a connection at once"
                assert not (rest and len(requests) > done), "bytes after an unanswered request"
                if len(requests) > done and not legacy.wire.closed:
                    answered[number] = done + 1
                    seen.append(requests[-1])
                    head = OK.replace(b"\r\n\r\nlegacy", b"\r\n\r\n")
                    legacy.send(head if requests[-1].start[0] == b"HEAD" else OK)
                    progress = True
    methods = [message.start[0] for message in seen]
    # Answers of our own stand between those of legacy, so only their framing is read here.
    answers, rest = _answers(bytes(wire.out), methods)
    assert not rest, rest
    ours = [a for a in answers if not a.all(b"x-legacy")]
    assert len(answers) - len(ours) == len(seen), "an answer for every request, and no more"
    for answer in ours:
        assert answer.status in GARBAGE_STATUS or answer.status == 200, answer
    read, whole = others_read(raw)
    others = iter(_forwarded(read))
    for mine in seen:  # what was refused is missing; what is there is what others read too
        if ours and not whole:
            break
        for other in others:
            if (*mine.start, mine.body) == other:
                break
            assert ours, (mine, other)
        else:
            assert not whole, ("no other parser reads this", mine)
            break
    if not wire.closed:
        visitor.eof_received()
        visitor.connection_lost(None)
    assert visitor.turn is None
    assert wired.busy == 0, "a request is left over"
    return seen


def _half_close(visitor: Visitor, wire: Wire) -> None:
    """They may be asked whether they are gone: with an interim answer, which is taken away here."""
    if wire.closed:
        return
    at = len(wire.out)
    if not visitor.eof_received():
        wire.close()
    if wire.out[at:] == CONTINUE:
        del wire.out[at:]


def _answers(raw: bytes, methods: list[bytes]) -> tuple[list[Message], bytes]:
    """The answers in `raw`. Those of legacy answer `methods` in turn; a page of our own always
    has its body, except for HEAD, which is tried first."""
    found: list[Message] = []
    waiting = list(methods)
    while raw:
        method = b"GET"
        if b"\r\nX-Legacy: 1\r\n" in raw.partition(b"\r\n\r\n")[0]:
            method = waiting.pop(0)
        one, rest = _bodiless(raw) if method == b"HEAD" else _one(raw)
        if not one:
            return found, raw
        found.append(one[0])
        raw = rest
    return found, b""


def _bodiless(raw: bytes) -> tuple[list[Message], bytes]:
    head, end, rest = raw.partition(b"\r\n\r\n")
    one, _ = answers_in(head + end, [b"HEAD"], ended=False)
    return one, rest


def _one(raw: bytes) -> tuple[list[Message], bytes]:
    """One answer to GET, or (a page of our own to HEAD) one whose body is not there."""
    head, end, rest = raw.partition(b"\r\n\r\n")
    if end and (not rest or rest.startswith(b"HTTP/1.")):
        return _bodiless(raw)
    one, _ = answers_in(head + end, [b"HEAD"], ended=False)
    if not one:
        return [], raw
    if one[0].status < 200:
        return one, rest
    (length,) = one[0].all(b"content-length")
    if len(rest) < int(length):
        return [], raw
    one[0].body = rest[: int(length)]
    return one, rest[int(length) :]


def _forwarded(read: list[tuple[bytes, bytes, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
    """Absolute targets become origin form on the way."""
    made = []
    for method, target, body in read:
        if target[:7].lower() == b"http://" or target[:8].lower() == b"https://":
            rest = target.partition(b"://")[2]
            at = min((i for i in map(rest.find, (b"/", b"?", b"#")) if i >= 0), default=len(rest))
            target = rest[at:]
            if not target.startswith(b"/"):
                target = b"*" if not target and method == b"OPTIONS" else b"/" + target
        made.append((method, target, body))
    return made


class _Answering(io.BytesIO):
    """Bytes that `http.client` takes for a socket."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self


def http_client_reads(raw: bytes, method: bytes) -> tuple[int, bytes] | None:
    """Status and body of the answer in `raw` as Python's own client reads it, or None where it
    refuses it or finds it cut off. It has no eye for a length said twice or after a space: what
    it takes for the end of the connection then says nothing."""
    sock = cast(socket.socket, _Answering(raw))
    answer = http.client.HTTPResponse(sock, method=method.decode())
    try:
        answer.begin()
        endless = answer.length is None and not answer.chunked
        body = answer.read()
    except (http.client.HTTPException, ValueError, OverflowError):
        return None
    return (answer.status, body) if answer.status >= 200 and not endless else None


def check_answer(wired: Wired, raw: bytes, cuts: list[int], method: bytes = b"GET") -> int:
    """Let legacy answer one request with `raw` and end; return the status the visitor got.

    Raises AssertionError or Malformed where: the engine fails; the visitor gets anything but
    exactly one well-framed answer or a cut one that cannot be taken for whole; the next visitor
    gets anything of it.
    """
    wired.fresh()
    visitor, wire = wired.visit()
    visitor.data_received(method + b" /one HTTP/1.1\r\nHost: forge.example\r\n\r\n")
    (legacy,) = wired.legacy
    for piece in pieces_of(raw, cuts):
        legacy.send(piece)
    reused = legacy.connection.user is None and not legacy.wire.closed
    if not reused:
        legacy.end()
    answers, rest = answers_in(bytes(wire.out), [method], ended=False)
    assert len(answers) <= 1, "one request, one answer"
    if not answers:
        assert wire.closed, "an answer that never comes"
        assert visitor.turn is None
    else:
        assert not rest, rest
        given = answers[0]
        other = http_client_reads(raw, method)
        if other and given.status == other[0] and given.status not in (204, 205, 304, 502):
            assert given.body == other[1], (given, other)
    # The next one gets their own answer, whichever connection that takes.
    following, second = wired.visit()
    following.data_received(b"GET /two HTTP/1.1\r\nHost: forge.example\r\n\r\n")
    wired.legacy[-1].send(OK)
    ((got,), rest) = answers_in(bytes(second.out), [b"GET"], ended=False)
    assert (got.status, got.body, rest) == (200, b"legacy", b"")
    for one, its in ((visitor, wire), (following, second)):
        if not its.closed:
            one.connection_lost(None)
    assert wired.busy == 0, "a request is left over"
    return answers[0].status if answers else 0
