"""A whole routes.yaml with the rules that a survey proposes, at 0%: `bridgectl check` accepts it,
and nothing changes for visitors. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from bridge.evidence.survey.order import Proposal
from bridge.evidence.survey.paths import Rule

__all__ = ["routes_file"]

_HEAD = """\
# Made from an access log: the pages to begin with, the best first, all at 0%.
# `{unwritten}` declines, so legacy answers whatever the share is.
# Put your own handler in its place, as `module:function`, route by route.
version: 1

sites:
  site:
    hosts: {hosts}
    legacy: php

backends:
  php:
    url: {legacy}

routes:
"""
_NO_QUERIES = """\
# The bridge's own log has no queries, so these routes take their paths whatever the query is: also
# `/?s=word`, where that is a search. Give a route `query: {s: false}` for each parameter that makes
# another page of it, or survey the web server's log, which has them.
"""
UNWRITTEN = "bridge.evidence.survey.unwritten:page"


def routes_file(
    proposals: Sequence[Proposal], hosts: Sequence[str], legacy: str, *, queries: bool = True
) -> str:
    """The text of the file. Pages for logging in, and accounts, are no beginning and left out.

    hosts: of the site; any other gets a 421.
    legacy: the URL of PHP's web server.
    queries: whether the log has them; without, a route takes its path whatever the query says.
    """
    text = _HEAD.format(
        unwritten=UNWRITTEN, hosts=json.dumps(list(hosts)), legacy=json.dumps(legacy)
    )
    if not queries:
        text = _NO_QUERIES + text
    taken: set[str] = set()
    kept: list[Rule] = []
    for one in proposals:
        if not one.personal and not any(_overlap(one.rule, other) for other in kept):
            kept.append(one.rule)
            text += "\n".join(_route(one, taken)) + "\n\n"
    return text.rstrip("\n") + "\n" if kept else text.replace("routes:\n", "routes: []\n")


def _route(one: Proposal, taken: set[str]) -> Iterator[str]:
    rule = one.rule
    yield f"  - name: {_name(rule, taken)} # {one.why}"
    yield f"    path: {json.dumps(rule.path, ensure_ascii=False)}"
    if rule.query:
        pairs = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in rule.query.items())
        yield f"    query: {{{', '.join(pairs)}}}"
    yield f"    handler: {UNWRITTEN}"
    yield "    python: 0%"


def _name(rule: Rule, taken: set[str]) -> str:
    """A name of letters that no other route has."""
    path = re.sub(r"<(?:\w+:)?\w+>", "", rule.path)
    words = [*re.findall(r"[a-z0-9]+", path.lower())]
    if not words:
        words = ["front"] if rule.path == "/" else ["page"]
    for key, value in rule.query.items():
        words += [] if value is False else [key] if value is True else [str(value)]
    if words[-1:] in (["php"], ["html"], ["htm"]) and len(words) > 1:
        words.pop()
    name = plain = (
        "-".join(re.findall(r"[a-z0-9]+", "-".join(words).lower()))[:50].strip("-") or "page"
    )
    if not name[0].isalpha():
        name = plain = f"page-{name}"
    count = 1
    while name in taken:
        count += 1
        name = f"{plain}-{count}"
    taken.add(name)
    return name


def _shape(rule: Rule) -> str:
    return re.sub(r"<(?:(\w+):)?\w+>", r"<\1>", rule.path)


def _overlap(one: Rule, other: Rule) -> bool:
    """Whether some address could fit both."""
    if _shape(one) != _shape(other):
        return False
    for name in one.query.keys() & other.query.keys():
        a, b = one.query[name], other.query[name]
        if a != b and (a is False or b is False or (isinstance(a, str) and isinstance(b, str))):
            return False
    return True
