"""Views that do on demand what makes the life of a proxy hard.

Tests and views leave each other notes: files in the directory that the query names as `desk`.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from stack.waiting import wait_for


def hello(request: Request, **variables: str) -> Response:
    """Says that Python answered, and in which worker."""
    headers = {"X-Side": "python", "X-Pid": str(os.getpid())}
    return Response("python\n", headers=headers, mimetype="text/plain")


def seen(request: Request) -> Response:
    """Says how the visitor came: the address they asked for, and theirs."""
    told = {"url": request.url, "client": request.remote_addr, "secure": request.is_secure}
    return Response(json.dumps(told), mimetype="application/json")


def hang(request: Request) -> Response:
    """Sleeps for a minute in C and keeps the interpreter to itself: nothing else runs."""
    (Path(request.args["desk"]) / "began").touch()
    ctypes.PyDLL(None).sleep(60)
    return Response("never\n")


def slow(request: Request) -> Response:
    """Says that it began, and answers when it may."""
    _wait_at(Path(request.args["desk"]))
    return Response("slow python\n", mimetype="text/plain")


def slow_stream(request: Request) -> Response:
    """Sends one line, says that it began, and sends the rest when it may."""
    desk = Path(request.args["desk"])

    def lines() -> Iterator[bytes]:
        yield b"slow "
        _wait_at(desk)
        yield b"stream\n"

    return Response(lines(), mimetype="text/plain")


def endless(request: Request) -> Response:
    """Sends lines for ever, and notes it when nobody wants them any more."""
    desk = Path(request.args["desk"])

    def lines() -> Iterator[bytes]:
        try:
            while True:
                yield b"and so on\n" * 100
        finally:
            (desk / "closed").touch()

    return Response(lines(), mimetype="text/plain")


def _wait_at(desk: Path) -> None:
    (desk / "began").touch()
    wait_for((desk / "go").exists, 20, "the test lets the handler go on")


def across(request: Request) -> Response:
    """Begins to answer after this worker has got another table, and ends after the next one.

    With `watch`, so it is in the middle of a reload each time; at most 0.3 s each. With
    `decline` it leaves the request to legacy, after the reload. A line of facts for each.
    """
    facts = {"side": "python", "request_id": request.headers["X-Request-Id"]}
    watching = "watch" in request.args

    def line(reloaded: bool) -> bytes:
        decision = request.environ["bridge.decision"]
        said = {
            **facts,
            "generation": request.environ["bridge.generation"],
            "share": decision.route.share,
            "legacy": decision.legacy,
            "reloaded": reloaded,
        }
        return json.dumps(said).encode() + b"\n"

    first = line(watching and _wait_for_reload())
    if "decline" in request.args:
        raise UseLegacy("on purpose")

    def lines() -> Iterator[bytes]:
        yield first
        yield line(watching and _wait_for_reload())

    return Response(lines(), mimetype="application/json")


def _wait_for_reload() -> bool:
    """Wait until this worker has loaded a table; whether it did within 0.3 s."""
    status = _own_status()
    before = os.stat(status).st_ino
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        if os.stat(status).st_ino != before:
            return True
        time.sleep(0.001)
    return False


@cache
def _own_status() -> Path:
    """The file in which this worker says what it runs; it is replaced after each load."""
    for file in (Path(os.environ["BRIDGE_STATE_DIR"]) / "workers").glob("*.json"):
        if json.loads(file.read_text(encoding="utf-8"))["pid"] == os.getpid():
            return file
    raise LookupError("this worker has no status file")
