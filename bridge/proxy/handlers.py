"""The Python side of a route: importing it, and making a WSGI application of a view.

A view is `view(request, **variables_of_the_path) -> Response` on Werkzeug's Request and
Response. Running a handler with a time limit is in `bridge.proxy.pythonside`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from bridge.errors import BridgeError, UseLegacy, VisitorError
from bridge.yamlfile import did_you_mean

__all__ = ["PARAMS", "HandlerError", "import_handler"]

PARAMS = "bridge.params"
"""Key of the WSGI environment that holds the variables of the route's path."""


class HandlerError(BridgeError):
    """A handler of routes.yaml cannot be imported; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        self.hint = hint
        super().__init__(message)


def import_handler(name: str, *, view: bool) -> WSGIApplication:
    """Import `module:attribute`. Raises HandlerError when that fails, whatever the module does."""
    module_name, _, attribute = name.partition(":")
    importlib.invalidate_caches()  # a mended file must be seen by the next attempt
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise HandlerError(
                f"there is no module `{error.name}` for handler `{name}`",
                f"modules are looked for in {_search_path()}; set PYTHONPATH or mend the name",
            ) from None
        raise HandlerError(
            f"handler `{name}` needs the module `{error.name}`, which is not installed",
            f"pip install the package that has `{error.name}`",
        ) from None
    except (Exception, SystemExit) as error:
        line = _line_of(error, module_name)
        raise HandlerError(
            f"handler `{name}` fails to import: {type(error).__name__}: {error}{line}",
            "mend the module; `bridge check` shows it again",
        ) from None
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [n for n in dir(found) if not n.startswith("_")]
            hint = did_you_mean(part, public) or f"define `{part}` in {module_name}"
            raise HandlerError(f"`{module_name}` has no `{part}`", hint) from None
    if not callable(found):
        raise HandlerError(f"`{name}` is not callable", "name a function or an application")
    return _view(found) if view else found


def _search_path() -> str:
    return ", ".join(path or "." for path in sys.path[:2])


def _line_of(error: BaseException, module_name: str) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its text has file and line
    traceback, where = error.__traceback__, ""
    while traceback:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == module_name:
            where = f" ({frame.f_code.co_filename}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return where


def _view(view: Callable[..., Response]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response: Any = view(request, **environ.get(PARAMS, {}))
        except HTTPException as error:
            if error.response is None:
                # Never Werkzeug's own error page: the site has one. Only a GET can be asked
                # again on the legacy side; anything else may have written already.
                if request.method in ("GET", "HEAD"):
                    raise UseLegacy(f"handler raised {error.code}") from error
                raise VisitorError(error.code or 500, error.name) from error
            response = error.response
        return response(environ, start_response)  # type: ignore[no-any-return]

    return app
