"""Handlers whose fate the address says."""

from __future__ import annotations

from werkzeug import Request, Response

from bridge.errors import UseLegacy

__all__ = ["page"]


def page(request: Request, **values: object) -> Response:
    """Answers, declines or fails."""
    fate = request.args.get("fate")
    if fate == "declines":
        raise UseLegacy("not mine")
    if fate == "raises":
        raise RuntimeError("out of luck")
    return Response(f"{request.path} by Python", status=500 if fate == "500" else 200)
