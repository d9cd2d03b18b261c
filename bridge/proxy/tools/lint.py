"""What is allowed in routes.yaml but is hardly meant: shadowed and unreachable routes, ties,
applications without their start page, paths in another program's notation, routes of every site.

A table in, problems with their places out; `lint_the_rest` looks at a file that is broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.errors import ConfigError, Problem
from bridge.proxy.request.hosts import Hosts
from bridge.proxy.routing import models
from bridge.proxy.routing.load import Handlers, load_text
from bridge.proxy.routing.matcher import fits, read_rule
from bridge.proxy.routing.table import Route, RouteTable, shape_of
from bridge.yamlfile import UnreadableFile, YamlFile, read_text

__all__ = ["lint", "lint_the_rest"]

_NEVER_CANONICAL = ("//", "/./", "/../", "%", "\\", "#", "?")
_CROWD = 500  # patterns in one segment: a millisecond for each unknown path
_FOREIGN = (
    (re.compile(r"\[[^\]/]+\][+*]|\(\?|\.[*+]|\\[dws]|\$$"), "no pattern", "<name>"),
    (re.compile(r"\*+(?=/|$)"), "no wildcard", "<path:rest>, which takes all below"),
    (re.compile(r"(?<=/):[A-Za-z_]\w*"), "no variable", "<name>"),
    (re.compile(r"\{[A-Za-z_][\w:]*\}"), "no variable", "<name>"),
)
"""How Express, Symfony, nginx and Apache write what Werkzeug's rules have in `<…>`."""
_KEY = re.compile(r"[^\s#-]")
"""How a line begins that belongs to no route any more."""
_ALL_BELOW = re.compile(r"(.*)/<path:[^<>]+>")


def lint(table: RouteTable, name: str) -> list[Problem]:
    """Every finding about the file `name`, in the order of its routes."""
    yaml = YamlFile.parse(table.text, name)
    findings = []
    for index, route in enumerate(table.routes):
        line, column = yaml.position(("routes", index, "path"))
        found = (
            _foreign(route)
            or _unreachable(route, table)
            or _tied(table.routes[:index], route, yaml)
            or _headless(route, table)
            or _ambiguous(route)
        )
        if found:
            findings.append(Problem(name, line, column, *found))
        if everywhere := _everywhere(route, table, yaml.data["routes"][index]):
            findings.append(Problem(name, line, column, *everywhere))
    for route, count in table.crowded():
        if count > _CROWD:
            line, column = yaml.position(("routes", table.routes.index(route), "path"))
            message = (
                f"{count} paths differ by a pattern in the same segment; each is tried in turn"
            )
            hint = "let one route with a variable take them all, and its handler tell them apart"
            findings.append(Problem(name, line, column, message, hint))
    for site, spec in table.file.sites.items():
        if any(host.startswith("*:") or host == "*" for host in spec.hosts):
            line, column = yaml.position(("sites", site, "hosts"))
            message = f"site `{site}` answers to every host name"
            findings.append(Problem(name, line, column, message, "list the site's own names"))
    return findings


def lint_the_rest(path: Path, errors: Sequence[Problem]) -> list[Problem]:
    """The findings about a file that has `errors`: about all of its routes where they are none of
    its text, as a handler that cannot be imported; else without the routes that have them. None
    where even that does not load."""
    try:
        text = read_text(path)
    except UnreadableFile:
        return []
    for rest in (text, _without(text, str(path), [one.line for one in errors])):
        try:
            return lint(load_text(rest, path, handlers=Handlers.NAMED), str(path))
        except ConfigError:
            continue
    return []


def _without(text: str, name: str, lines: Sequence[int]) -> str:
    """`text` with empty lines in place of the routes that have one of `lines` (from 1), so that
    all others stay where they are."""
    try:
        yaml = YamlFile.parse(text, name)
    except ConfigError:
        return text
    routes = yaml.data.get("routes")
    if not isinstance(routes, list) or not routes:
        return text
    found = text.splitlines(keepends=True)
    starts = [yaml.position(("routes", index))[0] for index in range(len(routes))]
    for start, after in zip(starts, [*starts[1:], len(found) + 1], strict=True):
        keys = (at + 1 for at in range(start, after - 1) if _KEY.match(found[at]))
        end = next(keys, after)
        if any(start <= line < end for line in lines):
            found[start - 1 : end - 1] = ["\n"] * (end - start)
    return "".join(found)


def _foreign(route: Route) -> tuple[str, str] | None:
    """A path as other programs write it, which stands here for its very letters."""
    plain = re.sub(r"<[^<>]*>", "", route.spec.path)
    for pattern, what, instead in _FOREIGN:
        if found := pattern.search(plain):
            part = found[0].strip("/")
            message = f"route `{route.name}`: {part!r} in its path is {what}, and stands for itself"
            return message, f"write {instead}; if the address has it: nothing"
    return None


def _everywhere(
    route: Route, table: RouteTable, written: Mapping[str, object]
) -> tuple[str, str] | None:
    """A Python side for several sites, where nobody says that it is for all of them."""
    sites = list(table.file.sites)
    if len(sites) < 2 or not route.handler or route.spec.host or written.get("site"):
        return None
    message = f"route `{route.name}` is for every site: {', '.join(sites)}"
    return message, f"write site: {sites[0]}, or site: '*' if that is meant"


def _unreachable(route: Route, table: RouteTable) -> tuple[str, str] | None:
    for part in _NEVER_CANONICAL:
        if part in route.spec.path:
            message = f"route `{route.name}`: nothing can reach it, a path never contains {part!r}"
            return message, "write the path decoded and without the query"
    host = route.spec.host
    if host is None:
        return None
    sites = table.file.sites
    names = [route.spec.site] if route.spec.site else list(sites)
    patterns = [pattern for name in names for pattern in sites[name].hosts]
    if not any(_overlap(host, pattern) for pattern in patterns):
        message = f"route `{route.name}`: nothing can reach it, no site has the host {host}"
        return message, f"add {host} to the hosts of a site, or mend the name"
    return None


def _overlap(one: str, other: str) -> bool:
    def plain(pattern: str) -> str:
        return pattern.replace("*.", "x.", 1).replace(":*", ":1")

    hosts = (Hosts({"one": [one]}).owner(plain(other)), Hosts({"other": [other]}).owner(plain(one)))
    return hosts != (None, None)


def _tied(earlier: tuple[Route, ...], route: Route, yaml: YamlFile) -> tuple[str, str] | None:
    for index, other in enumerate(earlier):
        if other.shape != route.shape or _disjoint(other.spec, route.spec):
            continue
        line, _ = yaml.position(("routes", index, "path"))
        if _covers(other.spec, route.spec):
            message = (
                f"route `{route.name}` is shadowed: route `{other.name}` in line {line} "
                "takes every request of it"
            )
            return message, "put the narrower route first, or remove this one"
        message = (
            f"routes `{other.name}` (line {line}) and `{route.name}` have equal rank, and some "
            "requests fit both; the first in the file gets them"
        )
        return message, "make their methods or conditions exclude each other"
    return None


def _headless(route: Route, table: RouteTable) -> tuple[str, str] | None:
    """An application that is given all pages below a path, and not the path itself."""
    below = _ALL_BELOW.fullmatch(route.spec.path)
    if below is None or route.spec.wsgi is None:
        return None
    start = below[1]
    places = [start, f"{start}/"] if start else ["/"]
    for other in table.routes:
        if other is route or _disjoint(other.spec, route.spec):
            continue
        if any(_takes(other, place) for place in places):
            return None
    missing = f"takes neither {places[0]} nor {places[1]}" if start else "does not take /"
    message = f"route `{route.name}`: its path {missing}, so legacy answers there"
    same = "the same wsgi and mount" if route.spec.mount else "the same wsgi"
    wanted = " and one with ".join(f"`path: {place}`" for place in reversed(places))
    return message, f"add a route with {wanted}, {same}; without wsgi if legacy is to answer"


def _ambiguous(route: Route) -> tuple[str, str] | None:
    """Two variables of a segment that could share out its text in several ways."""
    for part, _ in read_rule(route.spec.path)[0]:
        if isinstance(part, str):
            continue
        pairs = zip(part.variables[:-1], part.texts[1:-1], part.variables[1:], strict=True)
        for one, between, other in pairs:
            if one.takes(between) and other.takes(between):
                where = f"{between!r} stands" if between else "nothing stands"
                much = "little" if one.lazy else "much"
                message = (
                    f"route `{route.name}`: {where} between <{one.name}> and <{other.name}>, and "
                    f"either may take it; <{one.name}> takes as {much} as it can"
                )
                return message, f"narrow one of them, as in <int:{other.name}>"
    return None


def _takes(route: Route, place: str) -> bool:
    """Whether its path is `place`, which may have variables, or fits it."""
    if "<" in place:
        return route.shape == shape_of(place)
    return fits(route.spec.path, place)


def _disjoint(one: models.Route, other: models.Route) -> bool:
    """Whether no request can fit both."""
    if not set(one.methods) & set(other.methods):
        return True
    if one.site and other.site and one.site != other.site:
        return True
    if one.host and other.host and not _overlap(one.host, other.host):
        return True
    return (
        _exclude(one.query, other.query)
        or _exclude(one.cookies, other.cookies)
        or _exclude(_folded(one), _folded(other))
    )


def _folded(spec: models.Route) -> dict[str, str | bool]:
    return {name.lower(): value for name, value in spec.headers.items()}


def _exclude(one: Mapping[str, str | bool], other: Mapping[str, str | bool]) -> bool:
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        if (a is False and b is not False) or (b is False and a is not False):
            return True
        several = name.endswith("*")  # there may be two cookies of these names
        if isinstance(a, str) and isinstance(b, str) and a != b and not several:
            return True
    return False


def _covers(one: models.Route, other: models.Route) -> bool:
    """Whether every request that fits `other` fits `one`."""
    return (
        set(one.methods) >= set(other.methods)
        and one.site in (None, other.site)
        and one.host in (None, other.host)
        and _weaker(one.query, other.query)
        and _weaker(one.cookies, other.cookies)
        and _weaker(_folded(one), _folded(other))
    )


def _weaker(one: Mapping[str, str | bool], other: Mapping[str, str | bool]) -> bool:
    return all(
        name in other and (value == other[name] or (value is True and isinstance(other[name], str)))
        for name, value in one.items()
    )
