"""The tables that a log was decided by: that of the file as it is, and those before it, which the
history of flips tells; and one with other shares.

A flip changes one number, so it can be taken back in the text. What is made so counts only when its
digest is the one that the history knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from bridge.errors import ConfigError, FlipRefused
from bridge.proxy.routing.load import Handlers, load, load_text
from bridge.proxy.routing.models import parse_percent
from bridge.proxy.routing.table import RouteTable, matcher
from bridge.proxy.tools.history import Flip, read_history
from bridge.yamlfile import did_you_mean

__all__ = ["Tables", "at_shares"]

_MOST = 1000  # tables that are made of the history


class Tables:
    """The table of a file, and those that its history tells.

    routes: the file. Raises ConfigError for one that is broken.
    """

    def __init__(self, routes: Path) -> None:
        self.now = load(routes, handlers=Handlers.NAMED)
        self._by_digest = {self.now.digest: self.now}
        for table in _before(self.now, routes):
            self._by_digest.setdefault(table.digest, table)

    def get(self, digest: str) -> RouteTable | None:
        """The table with this digest, where it is known."""
        return self._by_digest.get(digest)

    def __len__(self) -> int:
        return len(self._by_digest)


def _before(table: RouteTable, routes: Path) -> Iterator[RouteTable]:
    """The tables before, the newest first, as long as the history leads to them."""
    flips = [flip for flip in read_history(routes) if flip.changed]
    steps = [list(some) for _, some in groupby(flips, key=lambda flip: (flip.at, flip.digest))]
    known = {table.digest}
    for at, step in enumerate(reversed(steps[-_MOST:])):
        if step[0].digest not in known:
            return
        earlier = steps[-at - 2][0].digest if at + 2 <= len(steps) else ""
        made = list(_undone(table, step, routes))
        found = next((one for one in made if one.digest == earlier), None)
        if found is None:
            # The file was edited between two flips: what was before this one is still known, if
            # it can be taken back in one way only.
            if len(made) == 1:
                yield made[0]
            return
        table = found
        known = {table.digest}
        yield table


def _undone(table: RouteTable, step: Sequence[Flip], routes: Path) -> Iterator[RouteTable]:
    """The table before the flips of one step, in each way in which they can be taken back."""
    texts = [table.text]
    for flip in step:
        texts = [one for text in texts for one in _without(text, flip)]
    for text in texts[:20]:
        try:
            yield load_text(text, routes, handlers=Handlers.NAMED)
        except ConfigError:
            continue


def _without(text: str, flip: Flip) -> Iterator[str]:
    """The text with the old number in its line: there may be several like the new one."""
    lines = text.splitlines(keepends=True)
    if not 0 < flip.line <= len(lines):
        return
    line = lines[flip.line - 1]
    for found in re.finditer(rf"(?<![\d.]){re.escape(flip.new)}", line):
        changed = line[: found.start()] + flip.old + line[found.end() :]
        yield "".join([*lines[: flip.line - 1], changed, *lines[flip.line :]])


def at_shares(table: RouteTable, shares: Mapping[str, str]) -> RouteTable:
    """The table as it would be with these shares (`20%`) of routes and groups. Raises FlipRefused
    for a name that has none, and ValueError for what is no share."""
    wanted = {name: parse_percent(share) for name, share in shares.items()}
    owners = {route.name: route.spec.group or route.name for route in table.routes if route.handler}
    for name in wanted:
        if name in owners.values() or name in table.file.groups:
            continue
        if name in owners:
            raise FlipRefused(f"route `{name}` flips with its group: {owners[name]}={shares[name]}")
        hint = did_you_mean(name, [*table.file.groups, *owners])
        raise FlipRefused(f"no route or group `{name}` with a Python side. {hint}".strip())
    routes = tuple(
        replace(one, share=wanted.get(owners.get(one.name, ""), one.share)) for one in table.routes
    )
    return replace(table, routes=routes, _urls=matcher(routes))
