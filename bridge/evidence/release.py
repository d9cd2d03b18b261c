"""What evidence is of: one release of the handlers, and one state of the data rules.

Answers of older code say nothing of the code that a flip would show to visitors, and neither do
answers from documents that were made by other rules.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bridge.errors import BridgeError
from bridge.settings import Settings

__all__ = ["MOST_BYTES", "MOST_FILES", "release_of", "rules_of"]

MOST_FILES = 20_000
MOST_BYTES = 256 * 2**20
"""Of one digest; a package with more needs BRIDGE_RELEASE."""

_DIGITS = 12
_LOOKED_AT = re.compile(
    r".+\.(?:py|html?|xhtml|xml|txt|jinja2?|j2|mako?|tmpl|tpl|pt|genshi|mustache|hbs|json|ya?ml|"
    r"toml|ini|po|mo|css|js|svg|md|rst)",
    re.IGNORECASE,
)
"""Code, and what pages are made of."""
_NOT = frozenset(("__pycache__", "node_modules", "site-packages", "dist-packages"))

_known: dict[str, tuple[tuple[int, int, int], bytes]] = {}
"""The digest of a file, and the inode, size and time that it had."""


def release_of(handlers: Iterable[str], settings: Settings) -> str:
    """BRIDGE_RELEASE, or else 12 digits that change with the code and the templates of the
    handlers' packages.

    handlers: as routes.yaml has them, `module:attribute`; modules are found as they would be
        imported, and none is.

    Raises BridgeError where there are too many files to look at.
    """
    if settings.release:
        return settings.release
    tops = sorted({name.partition(":")[0].partition(".")[0] for name in handlers} - {""})
    total, count, size = hashlib.sha256(), 0, 0
    for top in tops:
        for name, path in _files(top):
            found = _state(path)
            if found is None:
                continue  # gone by now
            (_, length, _), digest = found
            count, size = count + 1, size + length
            if count > MOST_FILES or size > MOST_BYTES:
                raise BridgeError(
                    f"the package `{top}` has too many files to tell one release from another by "
                    "them: set BRIDGE_RELEASE, for example to the commit that is deployed"
                )
            total.update(f"{top}/{name}".encode("utf-8", "surrogateescape") + b"\0" + digest)
    return total.hexdigest()[:_DIGITS]


def rules_of(settings: Settings) -> str:
    """12 digits that change with sync.yaml; empty where there is none. Raises BridgeError where it
    cannot be read."""
    try:
        return hashlib.sha256(settings.sync.read_bytes()).hexdigest()[:_DIGITS]
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BridgeError(f"{settings.sync} cannot be read: {error.strerror}") from None


def _files(top: str) -> Iterator[tuple[str, str]]:
    """The files of a top-level package or module: the name within it, in order, and the path."""
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None:
        return
    if found.submodule_search_locations is None:
        if found.origin and found.has_location:
            yield "", found.origin
        return
    for folder in list(found.submodule_search_locations):
        yield from _below(folder)


def _below(root: str) -> Iterator[tuple[str, str]]:
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in _NOT and not name.startswith("."))
        for name in sorted(names):
            if _LOOKED_AT.fullmatch(name) and not name.startswith("."):
                path = os.path.join(folder, name)
                yield os.path.relpath(path, root), path


def _state(path: str) -> tuple[tuple[int, int, int], bytes] | None:
    """What a file is now: it is read again only when it has changed."""
    try:
        found = os.stat(path)
        now = (found.st_ino, found.st_size, found.st_mtime_ns)
        if (known := _known.get(path)) and known[0] == now:
            return known
        if found.st_size > MOST_BYTES:
            return now, b""
        known = now, hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return None
    if len(_known) > MOST_FILES:
        _known.clear()
    _known[path] = known
    return known
