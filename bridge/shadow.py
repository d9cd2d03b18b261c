"""For handlers: whether the request is a visitor's, or one whose answer is only compared.

A handler that does something outside (sends mail, counts a view) asks `active` first. One that
reads MongoDB by itself says with `read` which documents its page is made of: then a page that is
older than the data of PHP is told from one that is wrong. `bridge.sync.Store` says it by itself.
"""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["active", "read", "seen"]

seen: ContextVar[dict[tuple[str, str], int | None] | None] = ContextVar(
    "bridge_shadow", default=None
)
"""What the handler of this context has read, where its answer is only compared: entity and key to
version, None where there was no document."""


def active() -> bool:
    """Whether nobody gets this answer: it is compared with legacy's and thrown away."""
    return seen.get() is not None


def read(entity: str, key: str, version: int | None) -> None:
    """Say that the page is made of this document.

    entity, key: as in sync.yaml; the key is the `_id` of the document.
    version: its `_v`; None where there is no document.
    """
    documents = seen.get()
    if documents is not None:
        documents[entity, key] = version
