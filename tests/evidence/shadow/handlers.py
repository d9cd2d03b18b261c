"""Handlers for the shadow: good ones, and each kind of bad one."""

from __future__ import annotations

import ctypes
import os
import time

from werkzeug.wrappers import Request, Response

from bridge import shadow
from bridge.errors import UseLegacy

__all__ = ["page"]

_kept: list[bytearray] = []


def page(request: Request) -> Response:
    """Does what the query says, where nobody gets the answer; a visitor would get `page`."""
    what = request.args.get("do", "") if shadow.active() else ""
    if what == "decline":
        raise UseLegacy("not mine")
    if what == "fail":
        raise RuntimeError("no database")
    if what == "hang":
        time.sleep(3600)
    if what == "hold":  # the interpreter, as a bad extension in C does
        ctypes.PyDLL(None).sleep(3600)
    if what == "grow":
        _kept.append(bytearray(os.urandom(1)) * (16 * 2**20))
    if what == "crash":
        os.abort()
    if what == "compute":
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            sum(range(100))
    response = Response("other" if what == "differ" else "page", mimetype="text/plain")
    response.set_cookie("seen", "1")
    return response
