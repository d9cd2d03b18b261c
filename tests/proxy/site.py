"""A small site for the tests of the pure core: a table from text, a head from words."""

from __future__ import annotations

from pathlib import Path

from bridge.proxy.decision.decide import Decider, Decision
from bridge.proxy.request.head import Head
from bridge.proxy.request.target import parse_target
from bridge.proxy.routing.load import load_text
from bridge.proxy.routing.table import RouteTable

TOP = """\
version: 1
sites:
  forge: {hosts: [forge.example], legacy: php}
backends:
  php: {url: "http://127.0.0.1:8090"}
  old: {url: "http://127.0.0.1:8091"}
groups:
  pages: {python: 20%}
routes:
"""

VIEW = "tests.proxy.site:view"


def view(request: object, **variables: object) -> object:
    """A handler that imports; nothing here calls it."""
    raise AssertionError("the pure core runs no handler")


def table(*routes: str, top: str = TOP, generation: int = 0) -> RouteTable:
    """A table of these routes, each a YAML flow mapping without its braces."""
    lines = [f"  - {{{route}}}\n" for route in routes] or ["  []\n"]
    return load_text(top + "".join(lines), Path("routes.yaml"), generation=generation)


def route(name: str, path: str, python: str | None = "0%", more: str = "") -> str:
    """One route with a Python side, for `table`."""
    share = f", python: {python}" if python else ""
    return f'name: {name}, path: "{path}", handler: "{VIEW}"{share}{", " if more else ""}{more}'


def head(
    target: str = "/", method: str = "GET", host: str = "forge.example", **headers: str
) -> Head:
    """A request head; header names with _ for -."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Head(method, parse_target(method, target), host, (("Host", host), *pairs), "192.0.2.7")


def decided(
    by: RouteTable | Decider,
    head: Head,
    now: float = 0.0,
    fresh_key: str = "fresh-key",
    secret: str = "",
) -> Decision:
    """By a table, or by a decider, which remembers what was asked before."""
    decider = by if isinstance(by, Decider) else Decider(by)
    return decider.decide(head, decider.table.trusted.client(head), now, fresh_key, secret)
