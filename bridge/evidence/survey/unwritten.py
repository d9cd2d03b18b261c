"""The handler of a route whose own is still to be written: it declines, so legacy answers.

`bridgectl survey --routes` names it, so that a routes.yaml is whole before there is any Python.
"""

from __future__ import annotations

from werkzeug import Request, Response

from bridge.errors import UseLegacy

__all__ = ["page"]


def page(request: Request, **values: object) -> Response:
    """Any page. Raises UseLegacy, always."""
    raise UseLegacy("the handler of this route is not written yet")
