"""What routes.yaml says, ready to be asked: which route takes a request.

A table is immutable: a request captures it once and keeps it to its end. Making one of the file is
in `bridge.proxy.routing.load`; deciding with one is in `bridge.proxy.decision.decide`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from bridge.errors import Problem
from bridge.proxy.request.forwarded import TrustedProxies
from bridge.proxy.request.head import Head
from bridge.proxy.request.hosts import Hosts
from bridge.proxy.routing import models
from bridge.proxy.routing.conditions import Conditions, Question
from bridge.proxy.routing.matcher import Matcher

__all__ = ["Route", "RouteTable", "matcher", "shape_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One route, ready to run.

    `share` is in thousandths of a percent; `share_key` is the group's name or, without a
    group, the route's own: routes with the same key share the bucket. `app` is None where the
    route has no Python side, or one that cannot be imported. `rules` are the changes to its
    response headers, by site; empty where the route has none of its own.
    """

    spec: models.Route
    conditions: Conditions
    share: int
    share_key: str
    app: WSGIApplication | None
    rules: Mapping[str, models.ResponseHeaders] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def handler(self) -> str:
        """What the file names as its Python side, empty where it names none."""
        return self.spec.handler or self.spec.wsgi or ""

    @property
    def shape(self) -> str:
        """The path without the names of its variables: equal shapes take equal URLs."""
        return shape_of(self.spec.path)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RouteTable:
    """Everything that routes.yaml says, checked. `digest` names its content in 12 digits;
    `watched` are the files besides routes.yaml that it was made from; `problems` are handlers
    that cannot be imported and error pages that cannot be read, where `Handlers` lets them pass."""

    text: str
    file: models.File
    routes: tuple[Route, ...]
    pages: Mapping[tuple[str, str], str]
    digest: str
    hosts: Hosts
    trusted: TrustedProxies
    generation: int = 0
    watched: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    _urls: Matcher[Route] = field(repr=False, default_factory=lambda: Matcher[Route](()))

    def look_up(
        self, head: Head, site: str
    ) -> tuple[tuple[Route, Mapping[str, Any]] | None, Question]:
        """The route for `head` and the variables of its path, or None; and the question, with
        what the answer depended on.

        The most specific path wins, as Werkzeug ranks them; among equal paths the order of the
        file. A route whose conditions fail is passed over.
        """
        question = Question(head, site)
        if head.target.path is None:
            return None, question
        return self._urls.find(head.target.path, question.fits), question

    def crowded(self) -> Iterable[tuple[Route, int]]:
        """See `Matcher.crowded`."""
        return self._urls.crowded()

    def route(self, name: str) -> Route | None:
        return next((route for route in self.routes if route.name == name), None)

    def at(self, share: int) -> RouteTable:
        """This table as it would be with `share`, in thousandths of a percent, everywhere."""
        routes = tuple(replace(one, share=share) if one.app else one for one in self.routes)
        return replace(self, routes=routes, _urls=matcher(routes))

    def page(self, site: str, status: int) -> str | None:
        """The site's own error page for `status`, or None."""
        return self.pages.get((site, str(status))) or self.pages.get((site, "default"))


def shape_of(path: str) -> str:
    """`/project/<int:id>` and `/project/<int:nr>` have the same shape."""
    return re.sub(r"<(?:([^:<>]+):)?[^<>]+>", lambda m: f"<{m[1] or 'string'}>", path)


def matcher(routes: Sequence[Route]) -> Matcher[Route]:
    """What finds the route of a path."""
    return Matcher((route.spec.path, route) for route in routes)
