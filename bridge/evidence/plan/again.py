"""A line of the bridge's own log, decided again: who would answer by a table, and why.

Pure. What the log cannot know from the table is taken from the line as a fact: a preview cookie, a
visitor without a key, a handler that could not be imported, a failure. The query and headers are
not in the log, so the route that it names stands for the match, as far as its path and method fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from bridge.errors import VisitorError
from bridge.proxy.decision.decide import PYTHON, by_bucket, for_everybody
from bridge.proxy.request.target import parse_target
from bridge.proxy.routing.matcher import fits
from bridge.proxy.routing.table import Route, RouteTable
from bridge.reasons import Reason

__all__ = ["Again", "again", "bucket_of", "doubt"]

_BUCKET = re.compile(r"bucket ([0-9.e-]+)% is ")
_PREVIEW = "preview cookie: "
_OF_THE_BRIDGE = "bridge"
_FAILED = frozenset(
    (Reason.PYTHON_ERROR, Reason.PYTHON_5XX, Reason.PYTHON_TIMEOUT, Reason.PYTHON_BUSY)
)


class Again(NamedTuple):
    """A side, PYTHON or the name of a backend, or `bridge` where nothing was decided; with the
    reason and the detail as the log has them."""

    side: str
    reason: str
    detail: str


def bucket_of(line: Mapping[str, Any]) -> int | None:
    """The visitor's bucket where the line has it; older logs have it in words."""
    number = line.get("bucket")
    if isinstance(number, int):
        return number
    found = _BUCKET.match(str(line.get("detail", "")))
    try:
        return round(float(found[1]) * 1000) if found else None
    except ValueError:
        return None


def again(table: RouteTable, line: Mapping[str, Any], bucket: int | None) -> Again | None:
    """Who answers the request of a line; None where the table has not what it names, or each
    visitor has a side and no bucket is known."""
    reason, site = line.get("reason", ""), table.file.sites.get(line.get("site", ""))
    if not reason:
        return Again(_OF_THE_BRIDGE, "", "")
    if site is None:
        return None
    name = line.get("route", "")
    if not name:
        oddity = _oddity(line.get("method", ""), line.get("path", ""))
        if oddity:
            return Again(site.legacy, Reason.ODD_TARGET, oddity)
        return Again(site.legacy, Reason.NO_ROUTE, "")
    route = _routes(table).get(name)
    if route is None:
        return None
    legacy = route.spec.legacy or site.legacy
    detail = str(line.get("detail", ""))
    if detail.startswith(_PREVIEW) and route.handler:  # also where it failed, for another reason
        picked = detail.removeprefix(_PREVIEW)
        return Again(PYTHON if picked == PYTHON else legacy, Reason.PREVIEW, f"{_PREVIEW}{picked}")
    same = for_everybody(route)
    if reason == Reason.NO_HANDLER and route.handler:
        return Again(legacy, reason, "")
    if same is not None:
        side, why, says = same
        return Again(PYTHON if side == PYTHON else legacy, why, says)
    if reason == Reason.NO_STICKY_KEY:
        missing = detail.partition(", and the request has no ")[2]
        return Again(legacy, reason, f"{route.share / 1000:g}%, and the request has no {missing}")
    if bucket is None:
        return None
    side, says = by_bucket(bucket, route.share)
    return Again(PYTHON if side == PYTHON else legacy, Reason.SHARE, says)


def doubt(table: RouteTable, line: Mapping[str, Any]) -> str:
    """How a line differs from what the table that it names decides, in words; empty where it does
    not."""
    found = again(table, line, bucket_of(line))
    if found is None:
        return "the table has not the route or site that it names, or no bucket is known"
    name, backend, reason = line.get("route", ""), line.get("backend", ""), line.get("reason", "")
    if name and (why := _unfit(_routes(table)[name], line)):
        return why
    fell_back, ended = line.get("fallback"), line.get("error") or line.get("aborted")
    if fell_back and found.side != PYTHON:
        return f"it fell back, and {found.side} answers"
    failed = reason in _FAILED
    if failed and not (found.side == PYTHON and line.get("error")):
        return f"reason {reason}, and {found.side} answers without a failure"
    if not failed and reason != found.reason:
        return f"reason {reason}, and not {found.reason}"
    detail = str(line.get("detail", "")).partition("; preview cookie ignored")[0]
    if detail != found.detail:
        return f"detail {detail!r}, and not {found.detail!r}"
    wanted = found.side
    if fell_back:
        route, site = _routes(table)[name], table.file.sites[line["site"]]
        wanted = route.spec.legacy or site.legacy
    if backend == wanted or (backend == _OF_THE_BRIDGE and ended):
        return ""
    if found.reason == "" or (line.get("method") == "OPTIONS" and backend == _OF_THE_BRIDGE):
        return "" if backend == _OF_THE_BRIDGE else f"backend {backend}, and nothing was decided"
    return f"backend {backend}, and not {wanted}"


def _unfit(route: Route, line: Mapping[str, Any]) -> str:
    """Why a request is none of the route's, as far as the log knows."""
    if line.get("method") not in route.spec.methods:
        return f"method {line.get('method')} is none of route {route.name}"
    path = _path(line.get("method", ""), line.get("path", ""))[0]
    if path is None or not _fits(route.spec.path, path):
        return f"path {line.get('path')} does not fit route {route.name}"
    return ""


_fits = lru_cache(maxsize=16_384)(fits)


@lru_cache(maxsize=16_384)
def _path(method: str, raw: str) -> tuple[str | None, str]:
    """The canonical path, or why there is none."""
    try:
        target = parse_target(method, raw)
    except VisitorError as error:
        return None, error.reason
    return target.path, target.oddity


def _oddity(method: str, raw: str) -> str:
    return _path(method, raw)[1]


@lru_cache(maxsize=64)
def _routes(table: RouteTable) -> dict[str, Route]:
    return {route.name: route for route in table.routes}
