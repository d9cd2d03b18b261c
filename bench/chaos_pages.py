"""What a visitor of `bench.chaos` may get: pages that name themselves, and the rule for an answer.

A page is made of the side that answers, the request's method and target, and the digest of the body
that was sent; whoever asked can make it, too, and compare byte by byte. So an answer that belongs
to another request, is cut, or is made of two, is seen. Pure.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["OWN_PAGE", "SIDES", "Answer", "Question", "ask", "complaint", "digest", "page"]

SIDES = ("legacy", "python")
OWN_PAGE = "<h1>We are sorry: $status</h1><p>chaos page of $request_id</p>"
_OWN = re.compile(rb"<h1>We are sorry: (\d{3})</h1><p>chaos page of [-\w]+</p>")
_LARGEST = 200_000  # bytes of a page


def digest(body: bytes) -> str:
    """Of what was sent; of nothing, too."""
    return hashlib.sha256(body).hexdigest()[:16]


def page(side: str, method: str, target: str, sent: str) -> bytes:
    """The page of `side` for a request; `sent` is the digest of its body. As long as the target's
    `size=` says, and at least a line."""
    line = f"{side} {method} {target} {sent}\n".encode()
    found = re.search(r"size=(\d+)", target)
    size = min(int(found[1]), _LARGEST) if found else 0
    return line + (line * (size // len(line) + 1))[:size]


@dataclass(frozen=True)
class Question:
    """A request, and who may answer it."""

    method: str
    target: str
    sides: tuple[str, ...]
    body: bytes = b""
    chunked: bool = False
    visitor: int = 0

    @property
    def by_handler(self) -> bool:
        """Whether a handler may have the request."""
        return "python" in self.sides

    def raw(self, host: str) -> bytes:
        """The bytes of the request."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        lines.append(f"X-Visitor: {self.visitor}")
        body = self.body
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            pieces = [body[at : at + 997] for at in range(0, len(body), 997)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (*pieces, b""))
        elif self.method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body


def ask(chance: random.Random, number: int, visitor: int) -> Question:
    """A request of any kind; no other one has this `number` of this `visitor`."""
    kind = chance.choice(("legacy", "legacy", "python", "python", "share", "post", "form"))
    size = chance.choice((0, 40, 1000, 9000, 70_000, _LARGEST))
    framing = chance.choice(("length", "chunked"))
    target = f"/{kind}/{number:x}-{visitor}?size={size}&framing={framing}"
    if kind in ("post", "form"):
        body = chance.randbytes(chance.choice((0, 10, 3000, 90_000)))
        chunked = bool(body) and chance.random() < 0.5
        sides = SIDES if kind == "form" else SIDES[:1]
        return Question("POST", target, sides, body, chunked, visitor)
    return Question("GET", target, SIDES[:1] if kind == "legacy" else SIDES, visitor=visitor)


@dataclass
class Answer:
    """What came: nothing (`status` 0), a part (`whole` is false), or all that was announced.
    `late` says that the visitor has stopped waiting."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    late: bool = False


def complaint(question: Question, answer: Answer, troubles: frozenset[str]) -> tuple[str, str]:
    """("", ""), or ("wrong" or "missing", why). `troubles` are the parts that were broken while
    the visitor waited: of `legacy`, `handlers`, `routes` and `workers` (one was killed)."""
    if answer.late:
        return "missing", "no end of an answer in time"
    legacy_broken = "legacy" in troubles
    handler_broken = question.by_handler and "handlers" in troubles
    broken = legacy_broken or handler_broken
    if not answer.whole:
        if answer.status == 0 and "workers" not in troubles:
            return "missing", "the connection was closed without an answer"
        pages = [_page(side, question) for side in question.sides]
        if answer.status == 200 and not any(one.startswith(answer.body) for one in pages):
            return "wrong", f"a part of another page: {answer.body[:80]!r}"
        if not broken and "workers" not in troubles:
            return "missing", f"an answer with status {answer.status} was cut off"
        return "", ""
    if answer.status == 200:
        return _judge_page(question, answer, troubles)
    said = _OWN.fullmatch(answer.body)
    if not said or int(said[1]) != answer.status:
        return "wrong", f"no page of ours for {answer.status}: {answer.body[:80]!r}"
    allowed: set[int] = set()
    if legacy_broken:
        allowed |= {502, 503, 504}
    if handler_broken and question.method == "POST":
        allowed |= {500, 503, 504}
    if answer.status not in allowed:
        return "wrong", f"status {answer.status} with {', '.join(sorted(troubles)) or 'no'} trouble"
    return "", ""


def _judge_page(question: Question, answer: Answer, troubles: frozenset[str]) -> tuple[str, str]:
    if answer.body not in [_page(side, question) for side in question.sides]:
        return "wrong", f"another page, {len(answer.body)} bytes: {answer.body[:80]!r}"
    side = answer.body.split(b" ", 1)[0].decode()
    if answer.headers.get("x-side") != side:
        return "wrong", f"a page of {side} with the headers of {answer.headers.get('x-side')}"
    if answer.headers.get("x-target") != question.target:
        return "wrong", f"the headers of another answer: {answer.headers.get('x-target')}"
    of_site, of_route = answer.headers.get("x-table"), answer.headers.get("x-row")
    if of_route not in (None, of_site) and "routes" not in troubles:
        return "wrong", f"an answer by two tables: {of_site} and {of_route}"
    return "", ""


def _page(side: str, question: Question) -> bytes:
    return page(side, question.method, question.target, digest(question.body))
