"""What comparisons might have found, for tests of what keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.evidence.answers import Answer, Asked
from bridge.evidence.differences.found import Found, Kind, Shown
from bridge.proxy.routing import models

__all__ = ["HTML", "answer", "difference", "kept", "note"]

HTML = [("Content-Type", "text/html; charset=utf-8")]


def answer(
    text: str | bytes = "<p>one</p>", headers: Sequence[tuple[str, str]] = (), status: int = 200
) -> Answer:
    """An answer of HTML."""
    body = text if isinstance(text, bytes) else text.encode()
    return Answer.of(status, [*HTML, *headers], body, "OK")


def difference(place: str = "html > body > p", group: str = "", what: str = "changed") -> Shown:
    """At `place`; `group` is the same without one."""
    return Shown(place, group or place, what, "one", "two")


def note(kind: str = "same", **more: Any) -> Found:
    """Of the route `project`, with a difference where the kind has one."""
    has = kind in ("different", "noise", "lag")
    fields: dict[str, Any] = {
        "route": "project",
        "source": "compare",
        "kind": Kind(kind),
        "asked": Asked("GET", "/project/bash", "www.example.org"),
        "legacy": answer("<p>one</p>"),
        "python": answer("<p>two</p>" if has else "<p>one</p>"),
        "differences": [difference()] if has else [],
        "at": 1_000_000.0,
        "release": "r1",
        "rules": "d1",
    }
    return Found(**(fields | more))


def kept(**more: Any) -> models.Compare:
    """`compare` of routes.yaml: its `keep`, and `hide`."""
    hide = more.pop("hide", ())
    return models.Compare.model_validate({"keep": more, "hide": hide})
