"""One side's answer to a request, as the visitor would have got it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.proxy.request.head import Headers

__all__ = ["Answer", "Asked", "Kind", "Read", "Reads"]

Read = tuple[str, str]
"""Entity and key of a document."""

Reads = Mapping[Read, int | None]
"""The documents that a handler has read, with their versions; None: there was none."""


class Kind(StrEnum):
    """What became of one comparison.

    SAME: nothing differs. NOISE: only what legacy does not answer twice alike either. LAG: the
    documents of one side were older, and asked again it is the same. DIFFERENT: all else that
    differs. DECLINED: Python says that the page is not its own. NOT_COMPARED: too large, legacy
    failed, or nobody could compare it in the time that there is.
    """

    SAME = "same"
    NOISE = "noise"
    LAG = "lag"
    DIFFERENT = "different"
    DECLINED = "declined"
    NOT_COMPARED = "not-compared"

    @property
    def is_compared(self) -> bool:
        """Whether two answers were compared."""
        return self not in (Kind.DECLINED, Kind.NOT_COMPARED)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its method, its raw target (path and query), its host, and its headers in their
    order, as HTTP text in Latin-1. `scheme` is http or https, `peer` the visitor's address."""

    method: str
    target: str
    host: str
    headers: Headers = field(default_factory=list)
    scheme: str = "http"
    peer: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer.

    status, reason: of its status line; the reason is empty where it is not known.
    headers: in their order, as HTTP text in Latin-1.
    body: the bytes as they were sent, with any Content-Encoding. Empty where it is larger than
        may be kept; then `whole` is false, and `length` and `digest` are all that is known of it.
    length: bytes of the body.
    digest: SHA-256 of the body, in hex.
    reads: what the handler has read; empty for legacy's.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes
    length: int
    digest: str
    whole: bool = True
    reads: Reads = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        status: int,
        headers: Headers,
        body: bytes,
        reason: str = "",
        reads: Reads | None = None,
    ) -> Answer:
        """That of a body which is here as a whole.

        status, reason, headers, body, reads: as the attributes.
        """
        digest = hashlib.sha256(body).hexdigest()
        return cls(status, reason, headers, body, len(body), digest, True, reads or {})

    def get(self, name: str) -> str | None:
        """The value of the first header `name`, any case, or None."""
        lowered = name.lower()
        return next((value for key, value in self.headers if key.lower() == lowered), None)
