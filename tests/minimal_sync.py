"""The least that a sync.yaml can say: two entities, each in a collection of its own."""

from __future__ import annotations

from pathlib import Path

from bridge.sync.documents import Mirror
from bridge.sync.entities import load

MINIMAL = """\
version: 1
entities:
  project: {collection: projects}
  release: {collection: releases}
"""


def write_sync(folder: Path, text: str = MINIMAL) -> Path:
    """folder/sync.yaml, written."""
    path = folder / "sync.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mirror_of(folder: Path, text: str = MINIMAL) -> Mirror:
    """The mirror of that sync.yaml."""
    return Mirror(load(write_sync(folder, text)))
