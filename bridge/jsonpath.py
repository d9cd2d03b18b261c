"""The paths in JSON that routes.yaml may name: `$.items[*].seen`, `$..id`, `$['a b'][0]`. Pure.

A part is a name, an index, `*` for all, or `..` before a name: at any depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Path", "Step", "matches", "read", "written"]

_NAME = re.compile(r"[^\W\d][\w-]*")
_STEP = re.compile(
    r"(?:(?P<deep>\.\.)|\.(?![.\[])|(?=\[))(?:"
    r"(?P<name>[^\W\d][\w-]*|\*)"
    r"|\[(?P<index>\d+|\*)\]"
    r"|\['(?P<single>(?:[^'\\]|\\.)*)'\]"
    r'|\["(?P<double>(?:[^"\\]|\\.)*)"\]'
    r")"
)


@dataclass(frozen=True, slots=True)
class Step:
    """name: of a member, the index of an item, or None for all. deep: at any depth below."""

    name: str | int | None
    deep: bool = False


Path = tuple[Step, ...]


def read(text: str) -> Path:
    """The path of its text. Raises ValueError, which says where it ends to be one."""
    if not text.startswith("$"):
        raise ValueError(f"{text!r} is no path in JSON: it begins with $, such as $.items[*].seen")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(
                f"{text!r} is no path in JSON from {text[at:]!r} on; "
                "write $.name, $['any name'], $.items[0], $.items[*] or $..name"
            )
        steps.append(Step(_name(match), match["deep"] is not None))
        at = match.end()
    return tuple(steps)


def _name(match: re.Match[str]) -> str | int | None:
    if match["name"] is not None:
        return None if match["name"] == "*" else match["name"]
    if match["index"] is not None:
        return None if match["index"] == "*" else int(match["index"])
    quoted = match["single"] if match["single"] is not None else match["double"]
    return re.sub(r"\\(.)", r"\1", quoted)


def matches(path: Path, place: tuple[str | int, ...]) -> bool:
    """Whether the path names exactly this place."""
    # The steps that may be next, as in an automaton: no choice is tried twice.
    states = {0}
    for part in place:
        after = set()
        for state in states:
            if state == len(path):
                continue
            step = path[state]
            if step.name is None or step.name == part:
                after.add(state + 1)
            if step.deep:
                after.add(state)
        states = after
    return len(path) in states


def written(place: tuple[str | int | None, ...]) -> str:
    """The text of a place; None is `[*]`."""
    parts = []
    for part in place:
        if part is None:
            parts.append("[*]")
        elif isinstance(part, int):
            parts.append(f"[{part}]")
        elif _NAME.fullmatch(part):
            parts.append(f".{part}")
        else:
            quoted = part.replace("\\", "\\\\").replace("'", "\\'")
            parts.append(f"['{quoted}']")
    return "$" + "".join(parts)
