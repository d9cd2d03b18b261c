"""How much time and room a visitor may take, as the connections of a process look at it."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.proxy.engine.reading import LONGEST_FIELD, LONGEST_HEAD, LONGEST_LINE, MOST_FIELDS
from bridge.proxy.routing import models

__all__ = ["Limits"]


@dataclass(slots=True)
class Limits:
    """`visitors` of routes.yaml, the same names: seconds, bytes, bytes a second; `share` is
    between 0 and 1. One object that all look at: a reload changes it."""

    head: float = 30.0
    body: float = 60.0
    idle: float = 60.0
    stall: float = 60.0
    slowest: int = 128
    buffer: int = 64 * 1024
    share: float = 0.75
    tunnel_idle: float = 3600.0
    request_line: int = LONGEST_LINE
    request_head: int = LONGEST_HEAD
    request_header: int = LONGEST_FIELD
    request_headers: int = MOST_FIELDS

    def take(self, spec: models.Visitors) -> None:
        """Become what `spec` says."""
        for name in type(spec).model_fields:
            setattr(self, name, getattr(spec, name))
        self.share = spec.share / 100_000
