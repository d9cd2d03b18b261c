"""Who asks legacy, as `bridge.proxy.engine.exchange` sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bridge.errors import LegacyError
from bridge.proxy.http.wire import ResponseHead
from bridge.proxy.request.head import Headers

if TYPE_CHECKING:
    from bridge.proxy.engine.upstream import LegacyConnection

__all__ = ["Asker"]


class Asker(Protocol):
    """Who asks legacy, and is told what comes."""

    @property
    def place(self) -> str:
        """From where the visitor comes, or empty."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx answer came."""

    def on_head(
        self, head: ResponseHead, headers: Headers, length: int | None, body: bytes, whole: bool
    ) -> None:
        """The final head came with these headers, `length` bytes of body to follow (None: it is
        not known), and `body` of them already; `whole` says that those are all."""

    def on_body(self, data: bytes) -> None:
        """More of the body came."""

    def on_end(self, trailers: Headers) -> None:
        """The body is complete."""

    def on_failure(self, error: LegacyError) -> None:
        """Legacy failed, before or after `on_head`."""

    def on_room(self) -> None:
        """More of the request's body can be taken."""

    def on_tunnel(self, head: ResponseHead, connection: LegacyConnection, rest: bytes) -> None:
        """Legacy has switched to the protocol that was asked for."""
