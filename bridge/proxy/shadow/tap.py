"""Which answers of legacy's are copied for the shadow process, and the copy while it passes.

A copy is made of a visitor's GET or HEAD that legacy answers, on a route with `shadow:`, for the
share of the visitors by their bucket, and no more often than its rate. Who is over the rate costs
one comparison. Nothing here waits.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bridge.proxy.decision.buckets import ALL, bucket, inside
from bridge.proxy.decision.decide import PYTHON, Decision
from bridge.proxy.hooks import Outcome
from bridge.proxy.request.cookies import SHARE_COOKIE
from bridge.proxy.request.forwarded import Client
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.routing import models
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.shadow.copies import LARGEST_BODY, Copied
from bridge.proxy.shadow.room import Room, Valve
from bridge.proxy.shadow.sender import Sender

__all__ = ["AWAY", "CUT", "FULL", "OVER_RATE", "SENT", "Copying", "Shadow"]

SENT, OVER_RATE, FULL, AWAY, CUT = "sent", "rate", "full", "away", "cut"
"""What becomes of an answer that is to be compared: it was sent; there were too many; there was no
room for it; nobody was there to compare it; it was not complete."""

_ROOM = LARGEST_BODY + 4 * 2**20  # bytes that the copies of a worker may hold together
_OWN = 4096  # bytes that a copy has besides headers and body
_READS = ("GET", "HEAD")
_PARTS = (206, 304)  # they say too little of the page


class Copying:
    """An answer on its way to the visitor, and what is kept of it.

    room: where its bytes are taken from.
    made: all of the copy but the body.
    held: bytes of room that it holds already.
    most: bytes of the body that are kept.
    """

    __slots__ = ("_hash", "_held", "_most", "_pieces", "_room", "full", "length", "made")

    def __init__(self, room: Room, made: Copied, held: int, most: int) -> None:
        self._room, self.made, self._held, self._most = room, made, held, most
        self._pieces: list[bytes] = []
        self._hash: hashlib._Hash | None = None
        self.length, self.full = 0, False

    def take(self, piece: bytes) -> None:
        """A piece of the body. What is beyond the limit is only counted and summed up."""
        self.length += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
        elif self.full:
            return
        elif self.length > self._most:
            self._hash = hashlib.sha256(b"".join([*self._pieces, piece]))
            kept = self.length - len(piece)
            self._drop(kept)
        elif self._room.take(len(piece)):
            self._held += len(piece)
            self._pieces.append(piece)
        else:
            self.full = True
            self._drop(self.length - len(piece))

    def _drop(self, size: int) -> None:
        self._pieces.clear()
        self._held -= size
        self._room.give(size)

    def copied(self) -> tuple[Copied, int]:
        """The whole, and the bytes of room that it holds."""
        made, digest = self.made, self._hash
        body = b"".join(self._pieces)
        whole = Copied(
            made.route, made.digest, made.method, made.target, made.host, made.headers, made.scheme,
            made.peer, made.status, made.reason, made.answer, self.length,
            digest.hexdigest() if digest else "", digest is None, time.time(), body,
        )  # fmt: skip
        return whole, self._held

    def forget(self) -> None:
        """It is not needed any more."""
        self._pieces.clear()
        self._room.give(self._held)
        self._held = 0


class Shadow:
    """What a process copies for the shadow. Thread-safe.

    state_dir: where the shadow's socket is.
    room: bytes that all copies may hold together.
    bound: seconds in which the shadow must take something of what it is sent.
    """

    def __init__(self, state_dir: Path, *, room: int = _ROOM, bound: float = 5.0) -> None:
        self.room = Room(room)
        self._sender = Sender(state_dir, self._sent, bound=bound)
        self._valves: dict[str, Valve] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def begin(
        self,
        table: RouteTable,
        head: Head,
        client: Client,
        decision: Decision,
        now: float,
        status: int,
        reason: str,
        headers: Headers,
    ) -> Copying | None:
        """The copy of an answer that legacy begins now, or None where it is not to be compared.

        table, head, client, decision: of the request. It has no body.
        now: seconds of a clock that only goes forward.
        status, reason, headers: of the answer, as the visitor gets them.
        """
        if (route := decision.route) is None or (spec := route.spec.shadow) is None:
            return None
        if decision.backend == PYTHON or head.method not in _READS or status in _PARTS:
            return None
        if spec.share < ALL and not inside(_bucket(table, head, client, decision), spec.share):
            return None
        name = route.spec.name
        valve = self._valves.get(name) or self._valves.setdefault(name, Valve())
        # This alone is what most requests of a busy route cost.
        if now < valve.opens and spec.rate == valve.rate:
            valve.over += 1
            return None
        if not valve.lets(now, spec.rate):
            return None
        if route.app is None:
            return None
        held = _OWN + sum(len(n) + len(v) for n, v in (*head.headers, *headers))
        if not self.room.take(held):
            self._count(route.name, FULL)
            return None
        made = Copied(
            route.name, table.digest, head.method, head.target.raw, head.host, list(head.headers),
            head.scheme, head.peer, status, reason, list(headers), 0, "", True, 0.0,
        )  # fmt: skip
        return Copying(self.room, made, held, spec.body)

    def end(self, copying: Copying, outcome: Outcome) -> None:
        """The answer is over. It is sent when the visitor got all of it."""
        route = copying.made.route
        if outcome.aborted or copying.full:
            copying.forget()
            self._count(route, FULL if copying.full else CUT)
            return
        self._sender.put(*copying.copied())

    def _sent(self, copied: Copied, held: int, sent: bool) -> None:
        self.room.give(held)
        self._count(copied.route, SENT if sent else AWAY)

    def _count(self, route: str, result: str) -> None:
        with self._lock:
            self._counts[route, result] += 1

    def counts(self) -> Mapping[tuple[str, str], int]:
        """By route and result, how many answers there were since the process began."""
        with self._lock:
            over = {(name, OVER_RATE): one.over for name, one in self._valves.items() if one.over}
            return {**self._counts, **over}


def _bucket(table: RouteTable, head: Head, client: Client, decision: Decision) -> int:
    """The visitor's bucket: that of the split where there is one. Who has no key, as nobody gave
    them a cookie yet, is known by their address: for a comparison alone nobody gets a cookie."""
    if decision.bucket is not None:
        return decision.bucket
    assert decision.route is not None
    key = _key(table.file.sites[decision.site].sticky, head) or client.address
    return bucket(decision.route.share_key, key)


def _key(sticky: models.Sticky, head: Head) -> str | None:
    if sticky.header:
        return head.get(sticky.header)
    return None if sticky.address else head.cookie(sticky.cookie or SHARE_COOKIE)
