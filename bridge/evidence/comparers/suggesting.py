"""Rules for routes.yaml that would hide what was noise. Pure.

Noise is told from differences without any rule, at the price of asking legacy once more. A rule
spares that. It hides an element with all that is in it, so a person decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bridge import jsonpath
from bridge.evidence.comparers.difference import Difference

__all__ = ["suggest"]

_PART = re.compile(r"(?P<tag>[^\s#\[]+)(?:#(?P<id>\S+?))?(?:\[(?P<nth>\d+)\])?")
_PLAIN = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_NO_ELEMENTS = ("text", "comment", "doctype")
_TOO_MUCH = {"html", "head", "body", "html > body", "html > head"}


def suggest(noise: Iterable[Difference]) -> list[dict[str, str]]:
    """Entries for `compare: {ignore: […]}`, each once, the most frequent first.

    noise: of as many pages of a route as there are. Places that have the same number on all of
        them keep it (`:nth-of-type(2)`); others are meant wherever they are.
    """
    groups: dict[str, list[str]] = {}
    for one in noise:
        groups.setdefault(one.group, []).append(one.place)
    proposed: dict[tuple[str, str], int] = {}
    for places in groups.values():
        rule = _rule(places)
        if rule is not None:
            proposed[rule] = proposed.get(rule, 0) + len(places)
    ordered = sorted(proposed, key=lambda rule: -proposed[rule])
    return [{kind: value} for kind, value in ordered]


def _rule(places: list[str]) -> tuple[str, str] | None:
    place = places[0]
    if place.startswith("header "):
        return "header", place.removeprefix("header ")
    if place.startswith("$"):
        return _json(places)
    if " > " in place or place.startswith("html"):
        return _css(places)
    return None  # cookies, lines and bytes have no rule that hides them and not more


def _json(places: list[str]) -> tuple[str, str] | None:
    path = re.sub(r"\[\d+\]", "[*]", places[0])
    try:
        jsonpath.read(path)
    except ValueError:  # it was cut, or a name in it looks like an index
        return None
    return ("json", path) if path != "$" else None


def _css(places: list[str]) -> tuple[str, str] | None:
    paths = [_steps(place) for place in places]
    if len({len(path) for path in paths}) > 1:
        paths = paths[:1]
    steps = []
    for alike in zip(*paths, strict=True):
        tag, name, _ = alike[0]
        numbers = {nth for _, _, nth in alike}
        nth = numbers.pop() if len(numbers) == 1 else None
        steps.append(_selector(tag, name, nth))
        if name:
            steps = steps[-1:]  # an id is found from anywhere
    selector = " > ".join(steps)
    if not steps or selector in _TOO_MUCH:
        return None
    return "css", selector


def _steps(place: str) -> list[tuple[str, str | None, str | None]]:
    """Tag, id and number of each part of the path to an element."""
    path = place.partition(" @")[0].rpartition("… > ")[2]
    steps = []
    for part in path.split(" > "):
        match = _PART.fullmatch(part)
        if match is None or match["tag"] in _NO_ELEMENTS:
            break
        steps.append((match["tag"], match["id"], match["nth"]))
    return steps


def _selector(tag: str, name: str | None, nth: str | None) -> str:
    if name is not None:
        return f"#{name}" if _PLAIN.fullmatch(name) else f'[id="{name}"]'
    return f"{tag}:nth-of-type({nth})" if nth else tag
