"""What all requests of a process share, whichever shell answers them.

It recognises who asks, and remembers what one request learns for the next:
which handlers fail, and who is being sent round and round.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog

from bridge.logs import traceback_text
from bridge.proxy.decision.breaker import Breaker
from bridge.proxy.decision.decide import Decider, Decision
from bridge.proxy.decision.rounds import Loops
from bridge.proxy.gate import Gate
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.request.admission import Admission, admit
from bridge.proxy.request.cookies import TRAIL_COOKIE
from bridge.proxy.request.forwarded import Client, plain_address
from bridge.proxy.request.head import Head
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.shadow.tap import Shadow
from bridge.reasons import Reason

__all__ = ["Caller", "Front"]

log = structlog.get_logger("bridge.proxy")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_SAID_BY_PROXIES = ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded")
_SAID = frozenset(map(str.lower, _SAID_BY_PROXIES))
_DRAWN = 256  # requests for which random digits are drawn at once


@dataclass(frozen=True, slots=True)
class Caller:
    """What can be said of a request before its path is looked at.

    `admission` has its head and the bridges on its way; `trusted` says that the connection
    comes from one of `trusted_proxies`; `request_id` is the one such a proxy gave, or empty;
    `site` is whose host was asked for, or None; `trailed` says that they bring their redirects.
    """

    admission: Admission
    client: Client
    trusted: bool
    request_id: str
    site: str | None
    trailed: bool


class Front:
    """What all requests of a process share.

    table: returns the routing table of the moment.
    secret: verifies preview cookies and names this bridge in its loop guard.
    loop_secret: signs what visitors carry of their redirects, where there is no `secret`.
    gate: keeps visitors from missing their own edits.
    tunnels: whether the shell can hand over a whole connection.
    shadow: copies answers of legacy's that are to be compared; None: nothing is.

    `reports_decisions` says that a plug-in wants to know of decisions.
    """

    def __init__(
        self,
        table: Callable[[], RouteTable],
        *,
        secret: str = "",
        loop_secret: str = "",
        hooks: Sequence[Hooks] = (),
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
        tunnels: bool = False,
        shadow: Shadow | None = None,
    ) -> None:
        self.table, self.secret, self.gate, self.clock = table, secret, gate, clock
        self.tunnels, self.shadow = tunnels, shadow
        self.hop = hashlib.sha256((secret or secrets.token_hex()).encode()).hexdigest()[:8]
        self._on_decision = _hooked(hooks, "on_decision")
        self.reports_decisions = bool(self._on_decision)
        self._after_response = _hooked(hooks, "after_response")
        self._breakers: dict[str, Breaker] = {}
        self.loops = Loops(secret or loop_secret or secrets.token_hex(), clock)
        self._decider: Decider | None = None
        self._warned: dict[bool, tuple[str, str]] = {}  # by whether near: address and header
        self._lock = threading.Lock()
        self._digits: list[str] = []
        os.register_at_fork(after_in_child=self._digits.clear)  # no two processes share an id

    def begin(self) -> tuple[Decider, str]:
        """What decides by the table of the moment, and 40 random hex digits for one request."""
        table, decider = self.table(), self._decider
        if decider is None or decider.table is not table:
            decider = self._decider = Decider(table)
        try:
            return decider, self._digits.pop()
        except IndexError:
            return decider, self._draw()

    def _draw(self) -> str:
        """Digits for many requests at once. A call of the system for each would let another thread
        have the interpreter, which costs 4% of the requests/s."""
        drawn = secrets.token_hex(20 * _DRAWN)
        ours, *others = (drawn[at : at + 40] for at in range(0, len(drawn), 40))
        self._digits.extend(others)
        return ours

    def recognise(self, table: RouteTable, head: Head) -> Caller:
        """(3) Who asks. For origin-form targets and all methods but OPTIONS and TRACE this
        depends on the headers and the connection only. Raises VisitorError."""
        admission = admit(head, self.hop, tunnels=self.tunnels)
        head = admission.head
        client = table.trusted.client(head)
        trusted = head.peer in table.trusted
        if not trusted and len(self._warned) < 2:
            self._warn_of_proxy(head)
        given = (head.get("X-Request-Id") or "") if trusted else ""
        request_id = given if _REQUEST_ID.fullmatch(given) else ""
        site, trailed = table.hosts.owner(head.host), head.cookie(TRAIL_COOKIE) is not None
        return Caller(admission, client, trusted, request_id, site, trailed)

    def _warn_of_proxy(self, head: Head) -> None:
        """Say once that `trusted_proxies` may lack somebody: then all visitors have one address,
        and PHP is told http. Strangers invent such headers too, so what a neighbour sends is
        said even after that."""
        if head.index is not None and _SAID.isdisjoint(head.index):
            return
        said = [name for name in _SAID_BY_PROXIES if head.get(name)]
        if not said:
            return
        near = not _is_far(head.peer)
        if near not in self._warned:
            self._warned[near] = head.peer, said[0]
            log.warning(
                f"{said[0]} of a stranger was left out; if that is your proxy, name it in "
                "trusted_proxies",
                peer=head.peer or "unix",
            )

    def strangers(self) -> dict[str, str]:
        """The neighbour that seems to be a proxy and is not trusted: its address, or `unix`, and
        which header of it was left out. Who is trusted by now is forgotten, and the next one is
        said."""
        trusted = self.table().trusted
        for near, (peer, _) in tuple(self._warned.items()):
            if peer in trusted:
                self._warned.pop(near, None)
        found = self._warned.get(True)
        return {found[0] or "unix": found[1]} if found else {}

    def breaker_is_open(self, route: str) -> bool:
        """Whether the Python side of `route` has failed too often just now."""
        breaker = self._breakers.get(route)
        return breaker is not None and breaker.is_open(self.clock())

    def python_did(self, route: str, *, well: bool) -> None:
        """Count what became of a handler."""
        with self._lock:
            breaker = self._breakers.get(route)
            if breaker is None:
                breaker = self._breakers[route] = Breaker()
            if well:
                breaker.succeeded(self.clock())
            elif breaker.failed(self.clock()):
                log.error("Python side left alone for a while", route=route, **breaker.facts)

    def breakers(self) -> dict[tuple[str, str], tuple[bool, int]]:
        """By route and cause (`failures` or `redirect-loop`): whether its Python side is left
        alone now, and how often that has begun in this process."""
        now = self.clock()
        with self._lock:
            kinds = (("failures", self._breakers), (Reason.REDIRECT_LOOP, self.loops.breakers()))
            return {
                (route, cause): (breaker.is_open(now), breaker.opened)
                for cause, breakers in kinds
                for route, breaker in breakers.items()
            }

    def report_decision(self, head: Head, decision: Decision) -> None:
        for hook in self._on_decision:
            try:
                hook(head, decision)
            except Exception as error:
                _hook_failed(hook, error)

    def report_response(self, outcome: Outcome) -> None:
        for hook in self._after_response:
            try:
                hook(outcome)
            except Exception as error:
                _hook_failed(hook, error)


@lru_cache(maxsize=1024)
def _is_far(peer: str) -> bool:
    """Whether a connection comes from outside of the own networks."""
    address = plain_address(peer)
    return address is not None and ipaddress.ip_address(address).is_global


def _hooked(hooks: Sequence[Hooks], name: str) -> list[Callable[..., None]]:
    """The hook `name` of every plug-in that has one of its own."""
    return [
        getattr(plugin, name)
        for plugin in hooks
        if getattr(type(plugin), name, None) is not getattr(Hooks, name)
    ]


def _hook_failed(hook: Any, error: Exception) -> None:
    plugin = type(getattr(hook, "__self__", hook)).__name__
    name = getattr(hook, "__name__", "")
    log.error("hook failed", hook=name, plugin=plugin, traceback=traceback_text(error))
