"""routes.yaml becomes a RouteTable, or a list of everything that is wrong with it.

What may stand there is in `bridge.proxy.routing.models`; when to load is in
`bridge.proxy.routing.reload`.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from pydantic import ValidationError

from bridge.errors import ConfigError, Problem
from bridge.importing import ImportFailed
from bridge.proxy.request.forwarded import TrustedProxies
from bridge.proxy.request.hosts import Hosts
from bridge.proxy.routing import models
from bridge.proxy.routing.conditions import Conditions
from bridge.proxy.routing.imports import Imports
from bridge.proxy.routing.rules import wrong_with
from bridge.proxy.routing.table import Route, RouteTable, matcher
from bridge.yamlfile import UnreadableFile, YamlFile, did_you_mean, read_text, whatever_happens

__all__ = ["Handlers", "Means", "load", "load_text"]


class Handlers(enum.Enum):
    """What becomes of the handlers and the error pages that a file names.

    NEEDED: one that cannot be had is a problem of the file. WANTED: a route, or a site, keeps the
    one that it had; without one, legacy answers, or the plain page is shown; everything else of
    the file counts. NAMED: no handler is imported, for whoever runs none; error pages as WANTED.
    """

    NEEDED = enum.auto()
    WANTED = enum.auto()
    NAMED = enum.auto()


@dataclass(frozen=True)
class Means:
    """What a file is loaded with.

    `imports` are those of this process; a table waits `patience` seconds for them (None: until
    they hang). `before` is the table that ran until now; without one, `pages` are the error pages,
    by site and status, for those that cannot be read.
    """

    handlers: Handlers = Handlers.NEEDED
    imports: Imports = field(default_factory=Imports)
    patience: float | None = None
    before: RouteTable | None = None
    pages: Mapping[tuple[str, str], str] = field(default_factory=dict)


_NO_FILE = "set BRIDGE_ROUTES or --routes to a file; `bridgectl example site` writes one"


def load(
    path: Path,
    means: Means | None = None,
    *,
    generation: int = 0,
    handlers: Handlers = Handlers.NEEDED,
    before: RouteTable | None = None,
) -> RouteTable:
    """Load routes.yaml.

    generation: the number that the table gets.
    handlers, before: short for `means` with these.

    Raises ConfigError with every problem of the file at once.
    """
    try:
        text = read_text(path)
    except UnreadableFile as error:
        hint = "save the file as UTF-8" if error.line else _NO_FILE
        what = str(error) if error.line else f"cannot be read: {error}"
        raise ConfigError(
            [Problem(str(path), error.line, min(1, error.line), what, hint)]
        ) from None
    return load_text(text, path, means, generation=generation, handlers=handlers, before=before)


def load_text(
    text: str,
    path: Path,
    means: Means | None = None,
    *,
    generation: int = 0,
    handlers: Handlers = Handlers.NEEDED,
    before: RouteTable | None = None,
) -> RouteTable:
    """Load `text` as if it stood in the file `path`.

    means, generation, handlers, before: as for `load`, and so is what it raises.
    """
    with whatever_happens(str(path)):
        means = means or Means(handlers=handlers, before=before)
        return _load_text(text, path, generation, means)


def _load_text(text: str, path: Path, generation: int, means: Means) -> RouteTable:
    yaml = YamlFile.parse(text, str(path))
    problems: list[Problem] = []
    file: models.File | None = None
    try:
        file = models.File.model_validate(yaml.data)
    except ValidationError as error:
        problems += yaml.problems(error, models.File)
    problems += _references(yaml) + _paths(yaml)
    apps, missing = _handlers(yaml, means)
    pages, unread = _pages(yaml, path.resolve().parent)
    if means.handlers is Handlers.NEEDED:
        problems += missing + unread
    if problems or file is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    before = means.before
    had = {route.name: route.app for route in before.routes} if before else {}
    routes = tuple(
        _route(spec, file, apps.get(name) or had.get(spec.name) if name else None)
        for spec in file.routes
        for name in [spec.handler or spec.wsgi]
    )
    # Of what can be read: so everybody who looks finds the same.
    digest = hashlib.sha256("\0".join([text, *pages.values()]).encode()).hexdigest()[:12]
    earlier = before.pages if before else means.pages
    named = {(name, status) for name, site in file.sites.items() for status in site.error_pages}
    return RouteTable(
        text=text,
        file=file,
        routes=routes,
        pages=MappingProxyType(
            {key: page for key, page in {**earlier, **pages}.items() if key in named}
        ),
        digest=digest,
        hosts=Hosts(file.hosts),
        trusted=TrustedProxies(file.trusted_proxies),
        generation=generation,
        watched=tuple(
            path.resolve().parent / name
            for site in file.sites.values()
            for name in site.error_pages.values()
        ),
        problems=(*missing, *unread),
        _urls=matcher(routes),
    )


def _route(spec: models.Route, file: models.File, app: WSGIApplication | None) -> Route:
    share = file.groups[spec.group].python if spec.group is not None else spec.python or 0
    # A group and a route may have the same name; their buckets must differ all the same.
    key = f"group:{spec.group}" if spec.group is not None else f"route:{spec.name}"
    own = spec.response_headers
    rules = {} if own is None else {n: own.over(s.response_headers) for n, s in file.sites.items()}
    return Route(spec, Conditions(spec), share, key, app, rules)


# --- checks that need the whole file; they read the raw data, since the models may have failed


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _raw_routes(yaml: YamlFile) -> list[tuple[int, Mapping[str, Any]]]:
    routes = yaml.data.get("routes")
    if not isinstance(routes, list):
        return []
    return [(index, route) for index, route in enumerate(routes) if isinstance(route, Mapping)]


def _references(yaml: YamlFile) -> list[Problem]:
    """Names that must exist, and names that must be unique."""
    problems = []

    def refer(
        location: tuple[str | int, ...], name: object, known: Mapping[str, Any], what: str
    ) -> None:
        if isinstance(name, str) and name not in known:
            hint = did_you_mean(name, known) or (
                f"known: {', '.join(known)}" if known else f"add it under `{what}s:`"
            )
            problems.append(yaml.problem(location, f"no {what} `{name}`", hint))

    backends = _mapping(yaml.data.get("backends"))
    sites = _mapping(yaml.data.get("sites"))
    groups = _mapping(yaml.data.get("groups"))
    owners: dict[str, str] = {}
    for site, spec in sites.items():
        refer(("sites", site, "legacy"), _mapping(spec).get("legacy"), backends, "backend")
        hosts = _mapping(spec).get("hosts")
        for index, host in enumerate(hosts if isinstance(hosts, list) else ()):
            if isinstance(host, str) and owners.setdefault(host.lower(), site) != site:
                place: tuple[str | int, ...] = ("sites", site, "hosts", index)
                message = f"host {host} is also of site `{owners[host.lower()]}`"
                problems.append(yaml.problem(place, message, "keep it in one site"))
    seen: dict[str, int] = {}
    for index, route in _raw_routes(yaml):
        refer(("routes", index, "site"), route.get("site"), {**sites, "*": None}, "site")
        refer(("routes", index, "group"), route.get("group"), groups, "group")
        refer(("routes", index, "legacy"), route.get("legacy"), backends, "backend")
        name = route.get("name")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            line, _ = yaml.position(("routes", seen[name], "name"))
            problems.append(
                yaml.problem(
                    ("routes", index, "name"),
                    f"a route `{name}` is already in line {line}",
                    "give each route its own name",
                )
            )
        if isinstance(name, str) and name in groups:
            problems.append(
                yaml.problem(
                    ("routes", index, "name"),
                    f"`{name}` is also the name of a group",
                    "`bridgectl flip` takes either; name them differently",
                )
            )
    return problems


def _paths(yaml: YamlFile) -> list[Problem]:
    """Rules that cannot be read, or cannot be asked."""
    problems = []
    for index, route in _raw_routes(yaml):
        path = route.get("path")
        if isinstance(path, str) and path and (wrong := wrong_with(path)):
            problems.append(yaml.problem(("routes", index, "path"), *wrong))
    return problems


def _handlers(yaml: YamlFile, means: Means) -> tuple[dict[str, WSGIApplication], list[Problem]]:
    """Import every handler once; those that answer somebody come first."""
    groups = _mapping(yaml.data.get("groups"))
    named = [
        (index, kind, name, _answers(route, groups))
        for index, route in _raw_routes(yaml)
        for kind in ("handler", "wsgi")
        if isinstance(name := route.get(kind), str) and ":" in name
    ]
    if means.handlers is Handlers.NAMED:
        return {name: _not_imported(name) for _, _, name, _ in named}, []
    wanted = [
        (name, kind == "handler") for _, kind, name, _ in sorted(named, key=lambda n: not n[3])
    ]
    found = means.imports.ask(wanted, means.patience)
    apps: dict[str, WSGIApplication] = {}
    problems = []
    for index, kind, name, _ in named:
        app = found[name, kind == "handler"]
        if isinstance(app, ImportFailed):
            problems.append(yaml.problem(("routes", index, kind), str(app), app.hint))
        else:
            apps.setdefault(name, app)
    return apps, problems


def _answers(route: Mapping[str, Any], groups: Mapping[str, Any]) -> bool:
    """Whether a route has a share of the visitors, as far as that can be said of raw data."""
    share = _mapping(groups.get(str(route.get("group")))).get("python", route.get("python"))
    return bool(share != "0%")


def _not_imported(name: str) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise RuntimeError(f"{name} was named, and not imported")

    return app


def _pages(yaml: YamlFile, base: Path) -> tuple[dict[tuple[str, str], str], list[Problem]]:
    """Read the sites' own error pages."""
    pages: dict[tuple[str, str], str] = {}
    problems = []
    for site, spec in _mapping(yaml.data.get("sites")).items():
        for status, name in _mapping(_mapping(spec).get("error_pages")).items():
            if not isinstance(name, str):
                continue
            try:
                pages[site, str(status)] = read_text(base / name)
            except UnreadableFile as error:
                place = ("sites", site, "error_pages", status)
                hint = f"the path is relative to {base}"
                problems.append(yaml.problem(place, f"error page {name}: {error}", hint))
    return pages, problems
