"""Rules of paths, as Werkzeug reads them, and what is wrong with one.

A rule is compiled to Python and to regular expressions, partly when it is first asked, and its
converters take what is written in the file. Here all of that is tried out while the file is
loaded, so that no request meets it.
"""

from __future__ import annotations

import contextlib
import re

from werkzeug.routing import ValidationError as ValidationFailed
from werkzeug.routing.converters import NumberConverter

from bridge.proxy.routing.matcher import read_rule

__all__ = ["wrong_with"]

_DEEPEST = 100
"""Segments of a path. A rule is matched segment by segment, each a call within the other."""


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
    for variable in read_rule(path)[1]:
        if isinstance(variable.converter, NumberConverter):
            with contextlib.suppress(ValidationFailed):
                variable.converter.to_python("1")


def _rule_error(path: str, error: Exception) -> str:
    """In words, what is wrong with a rule."""
    names = re.findall(r"<(?:[^:<>]+:)?([^<>]+)>", path)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"the variable `{twice}` is there twice"
    if isinstance(error, TypeError):
        return f"a converter does not take its arguments ({error})"
    return str(error).strip("'\"") or type(error).__name__
