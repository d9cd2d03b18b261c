"""What is refused before any route is looked at, and what the request carries on.

Pure. Loops are found by a header of our own that names every bridge on the way; Max-Forwards
is honoured where RFC 9110, section 7.6.2, asks for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bridge.errors import VisitorError
from bridge.proxy.request.head import Head

__all__ = ["HOP_HEADER", "Admission", "admit"]

HOP_HEADER = "X-Bridge-Hop"
"""Carries the names of the bridges that a request went through; meeting our own is a loop."""

_HOPS = re.compile(r"[0-9a-f]{8}(,[0-9a-f]{8})*")
_MOST_HOPS = 8
_LONGEST_NUMBER = 9  # digits of Max-Forwards


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on: its head, and the names of the bridges on its way, ours last.

    `final` means that we are the last recipient: it is answered here and goes nowhere.
    """

    head: Head
    hops: tuple[str, ...]
    final: bool = False


def admit(head: Head, own_hop: str, *, tunnels: bool = False) -> Admission:
    """Check `head`; `own_hop` is the name of this bridge, 8 hex digits. `tunnels` says that the
    shell can hand over a connection. Raises VisitorError: 400 contradicting hosts, 405 a final
    TRACE, 501 an upgrade that this shell cannot tunnel, 508 a loop."""
    if head.target.authority and head.target.authority.lower() != head.host:
        raise VisitorError(400, "Host and the request target name different hosts")
    if not tunnels and "websocket" in _tokens(head.get("Upgrade")):
        raise VisitorError(501, "WebSocket needs the event-loop engine")
    came = head.get(HOP_HEADER) or ""
    hops = tuple(came.split(",")) if _HOPS.fullmatch(came) else ()
    if own_hop in hops or len(hops) >= _MOST_HOPS:
        raise VisitorError(508, f"the request came back to this proxy: {','.join(hops)}")
    final = False
    if head.method in ("OPTIONS", "TRACE") and (left := head.get("Max-Forwards")) is not None:
        if not (left.isascii() and left.isdigit() and len(left) <= _LONGEST_NUMBER):
            raise VisitorError(400, "Max-Forwards is no number")
        if int(left) == 0:
            if head.method == "TRACE":
                # The last recipient would send back the request, cookies and all.
                raise VisitorError(405, "TRACE is not answered")
            final = True
        headers = tuple(
            (name, str(int(left) - 1) if name.lower() == "max-forwards" else value)
            for name, value in head.headers
        )
        head = replace(head, headers=headers, index=None)
    return Admission(head, (*hops, own_hop), final)


def _tokens(value: str | None) -> list[str]:
    return [token.strip().lower() for token in (value or "").split(",")]
