"""The last good table, kept in the state directory with what it needs beside it.

A worker that starts while routes.yaml, or an error page, is broken runs this. The text is a file
that a person can copy back; the error pages are beside it as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import structlog

from bridge.files import write_atomically
from bridge.proxy.routing.table import RouteTable

__all__ = ["FILE", "is_kept", "is_there", "keep", "pages", "text"]

log = structlog.get_logger("bridge.reload")

FILE = "last-good.yaml"
_PAGES = "last-good.pages.json"

Pages = Mapping[tuple[str, str], str]


def keep(state_dir: Path, table: RouteTable) -> None:
    """Remember `table`. Where that cannot be written, it is logged."""
    try:
        # Pages first: a table never finds less than it needs.
        if table.pages or (state_dir / _PAGES).exists():
            kept = [[*key, page] for key, page in table.pages.items()]
            write_atomically(state_dir / _PAGES, json.dumps(kept))
        write_atomically(state_dir / FILE, table.text)
    except OSError as error:
        log.warning("cannot keep the last good routes.yaml", error=str(error))


def is_there(state_dir: Path) -> bool:
    """Whether there is one."""
    return text(state_dir) is not None


def is_kept(state_dir: Path) -> bool:
    """Whether its file is there, whatever it says. Cheap."""
    return (state_dir / FILE).is_file()


def text(state_dir: Path) -> str | None:
    """Its text; None when there is none that can be read."""
    try:
        return (state_dir / FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def pages(state_dir: Path) -> Pages:
    """Its error pages by site and status, as far as they can be read."""
    try:
        raw = json.loads((state_dir / _PAGES).read_text(encoding="utf-8"))
        return {(str(site), str(status)): str(page) for site, status, page in raw}
    except (OSError, ValueError, TypeError):
        return {}
