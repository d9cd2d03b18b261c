"""Whether views take what their routes give them: each variable of the path, by its name.

A view that does not fit raises at every request, and legacy answers: everything is live and
nothing comes from Python. `bridgectl check` and a flip that raises a share look before.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection

from bridge.errors import Problem
from bridge.importing import ImportFailed, import_callable
from bridge.proxy.routing.table import Route, RouteTable
from bridge.yamlfile import YamlFile

__all__ = ["misfits"]

_VARIABLE = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


def misfits(table: RouteTable, name: str, routes: Collection[str] = ()) -> list[Problem]:
    """Views of the table of the file `name` that cannot be called as they would be; only those of
    `routes`, if there are any. What cannot be imported is no business of this."""
    yaml = YamlFile.parse(table.text, name)
    found = []
    for index, route in enumerate(table.routes):
        wanted = not routes or route.name in routes
        if wanted and (handler := route.spec.handler) and (why := _misfit(route, handler)):
            hint = f"let it take ({', '.join(['request', *_variables(route)])})"
            found.append(yaml.problem(("routes", index, "handler"), why, hint))
    return found


def _variables(route: Route) -> list[str]:
    """The variables of the route's path, in its order."""
    return _VARIABLE.findall(route.spec.path)


def _misfit(route: Route, handler: str) -> str:
    """What is wrong with the view, or nothing."""
    try:
        view = import_callable(handler)
        # As it is called, and not what a decorator wraps: that may add arguments of its own.
        signature = inspect.signature(view, follow_wrapped=False)
    except (ImportFailed, ValueError, TypeError):
        return ""  # some functions of C do not say what they take
    variables = _variables(route)
    try:
        signature.bind(object(), **dict.fromkeys(variables))
    except TypeError as error:
        given = f"the request and {', '.join(variables)}" if variables else "the request alone"
        return f"view `{handler}` does not take {given}, as the path gives it: {error}"
    return ""
