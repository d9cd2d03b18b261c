"""Counts that only a process's own memory has, for whoever shows them in it.

The proxy shows what the mirror's cache does without knowing it: a site without handlers that read
MongoDB never loads that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["counted", "offer"]

_sources: dict[str, Callable[[], Mapping[str, int]]] = {}


def offer(name: str, source: Callable[[], Mapping[str, int]]) -> None:
    """From now on `source` says what there is under `name`."""
    _sources[name] = source


def counted(name: str) -> Mapping[str, int]:
    """The counts under `name`, by what they count; empty where nobody offers any."""
    source = _sources.get(name)
    return source() if source else {}
