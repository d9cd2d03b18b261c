"""The Python side of a route: importing it, and making a WSGI application of a view.

A view is `view(request, **variables_of_the_path) -> Response` on Werkzeug's Request and
Response. Running a handler with a time limit is in `bridge.proxy.python.threads`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy, VisitorError
from bridge.importing import import_callable

__all__ = ["PARAMS", "import_handler"]

PARAMS = "bridge.params"
"""Key of the WSGI environment that holds the variables of the route's path."""


def import_handler(name: str, *, view: bool) -> WSGIApplication:
    """Import `module:attribute`. Raises ImportFailed when that fails, whatever the module does."""
    found = import_callable(name)
    return _view(found) if view else found


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
        if not callable(response):
            raise _no_response(response)
        return response(environ, start_response)  # type: ignore[no-any-return]

    return app


def _no_response(returned: object) -> TypeError:
    """What to say of a view that returned what other frameworks make a response of."""
    kind = type(returned).__name__
    if isinstance(returned, Coroutine):
        returned.close()  # nobody waits for it
        return TypeError("the view is `async def`: views are plain functions; write `def`")
    do = {
        "NoneType": "a path through it has no `return`",
        "str": 'write return Response(text, mimetype="text/html")',
        "bytes": "write return Response(data, mimetype=…)",
        "dict": 'write return Response(json.dumps(data), mimetype="application/json")',
        "tuple": "write return Response(text, status, headers)",
    }.get(kind, "write return Response(…)")
    said = "None" if returned is None else kind
    return TypeError(f"the view returned {said}, not a Response; {do}")
