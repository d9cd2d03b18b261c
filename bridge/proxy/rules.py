"""Rules of paths, as Werkzeug reads them, and what is wrong with one.

A rule is compiled to Python and to regular expressions, partly when it is first asked, and its
converters take what is written in the file. Here all of that is tried out while the file is
loaded, so that no request meets it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.routing import ValidationError as ValidationFailed
from werkzeug.routing.converters import NumberConverter

__all__ = ["matcher", "single_rule", "wrong_with"]

_MAP_SETTINGS: dict[str, Any] = {
    # The defaults invent 308 redirects: fuel for a redirect loop with the other side.
    "strict_slashes": False,
    "merge_slashes": False,
    "redirect_defaults": False,
}


_DEEPEST = 100
"""Segments of a path. A rule is matched segment by segment, each a call within the other."""


class _Adapter(MapAdapter):
    """One that takes its map apart when it is over. A map and its rules know each other, and so
    old tables would stay until Python looks for such circles, which is seldom."""

    def __del__(self) -> None:
        for rule in self.map.iter_rules():
            rule.__dict__.clear()
        self.map.__dict__.clear()


def matcher(rules: Iterable[Rule]) -> MapAdapter:
    """Finds the best of `rules` for a path, which are its own. Raises anything for a malformed
    one."""
    found = Map(rules, **_MAP_SETTINGS)
    # Sorted now: else the first request would do it, and meet what cannot be sorted.
    found.update()
    adapter = found.bind("")
    adapter.__class__ = _Adapter
    return adapter


def single_rule(path: str) -> MapAdapter:
    """A map of this one path. Raises anything for a malformed rule."""
    return matcher([Rule(path, endpoint="")])


def wrong_with(path: str) -> tuple[str, str] | None:
    """Why no route can have this path, and what to write; None when one can."""
    if not path.startswith("/"):
        return f"path {path!r} must begin with /", f"write /{path}"
    if path.count("/") > _DEEPEST:
        return f"the path has more than {_DEEPEST} segments", "use <path:rest> for the rest of it"
    try:
        _try_out(path)
    except Exception as error:
        hint = "write for example /project/<name>, /id/<int:id> or /files/<path:rest>"
        return f"path {path!r}: {_rule_error(path, error)}", hint
    return None


def _try_out(path: str) -> None:
    """Raises what a request would meet: rules are compiled when they are first asked, and the
    arguments of converters first compared."""
    adapter = single_rule(path)
    for rule in adapter.map.iter_rules():
        for part in rule._parts:
            re.compile(part.content)
        for converter in rule._converters.values():
            if isinstance(converter, NumberConverter):
                with contextlib.suppress(ValidationFailed):
                    converter.to_python("1")


def _rule_error(path: str, error: Exception) -> str:
    """In words, what is wrong with a rule."""
    names = re.findall(r"<(?:[^:<>]+:)?([^<>]+)>", path)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"the variable `{twice}` is there twice"
    if isinstance(error, TypeError):
        return f"a converter does not take its arguments ({error})"
    return str(error).strip("'\"") or type(error).__name__
