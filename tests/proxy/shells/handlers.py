"""The Python side of the routes under test; runs in the server, not in the tests.

FIFO is a named pipe: a handler that hangs waits until a test opens it for writing. EVENTS is a
file to which handlers write what happens to them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from bridge.errors import UseLegacy

TEXT = [("Content-Type", "text/plain")]


def _note(event: str) -> None:
    with open(os.environ["TEST_EVENTS"], "a", encoding="utf-8") as file:
        file.write(f"{event}\n")


def _wait_for_release() -> None:
    with open(os.environ["TEST_FIFO"], "rb") as pipe:
        pipe.read()


def text(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [b"python"]


def ruled(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X-Mine", "1"), ("Cache-Control", "max-age=9")])
    return [b"python"]


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A page of `?N` bytes."""
    body = (b"<p>same and same again</p>\n" * 4000)[: int(environ.get("QUERY_STRING") or 20_000)]
    length = ("Content-Length", str(len(body)))
    start_response("200 OK", [("Content-Type", "text/html"), length, ("ETag", '"one"')])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


page_as_it_is = page


def unmeasured(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A page that leaves its length to the server."""
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"<p>same and same again</p>\n" * 400]


def stream_of_text(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Goes on when the test says so."""
    start_response("200 OK", TEXT)
    yield b"first\n"
    _wait_for_release()
    yield b"second\n"


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


echo_soon, split, guests = echo, text, text


class _Stream:
    """Two pieces, then one each time the test releases it, until `close`."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        while True:
            _wait_for_release()
            yield b"more" * 20_000

    def close(self) -> None:
        _note("closed")


def streaming(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return _Stream()


class _Counted:
    def __iter__(self) -> Iterator[bytes]:
        yield b"told"

    def close(self) -> None:
        _note("told and closed")


def tells(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X-Bridge-Anything", "internal"), ("X-Mine", "kept")])
    return _Counted()


def declines(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise UseLegacy("not mine")


def declines_after_reading(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    environ["wsgi.input"].readline()
    environ["wsgi.input"].read(1000)
    raise UseLegacy("not mine either")


def has_some(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """An application that has one page, and reads what it is sent."""
    body = environ["wsgi.input"].read()
    wanted = environ.get("QUERY_STRING", "")
    start_response(wanted.replace("-", " ") or "200 OK", [*TEXT, ("Set-Cookie", "python=1")])
    return [b"python " + body[:5]]


def reads_too_much(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    raise UseLegacy("too late")


def fails(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise RuntimeError("a secret of the handler")


fails_often = fails


def answers_503(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("503 Service Unavailable", TEXT)
    return [b"python's own page"]


def hangs(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    _note("hangs")
    _wait_for_release()
    start_response("200 OK", TEXT)
    return [b"too late"]


def fails_after_the_first_byte(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    yield b"the beginning"
    raise RuntimeError("a secret of the handler")


def too_short(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    return [b"12345"]


def too_long(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"1234567890"]


def fails_with_a_page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As a framework that makes an error page of every exception (PEP 3333)."""
    start_response("200 OK", TEXT)
    yield b"the beginning"
    try:
        raise RuntimeError("a secret of the handler")
    except RuntimeError:
        start_response("500 Internal Server Error", TEXT, sys.exc_info())
        yield b"an error page"


def another_page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    try:
        raise RuntimeError("a secret of the handler")
    except RuntimeError:
        start_response("404 Not Found", TEXT, sys.exc_info())
    return [b"another page"]


def no_bytes(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", TEXT)
    return ["text"]


def no_bytes_later(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", TEXT)
    return [b"the beginning", None, b"the end"]


class _Endless:
    """Goes on after the five bytes that were announced."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"123"
        yield b"45"
        _note("after the last byte")
        while True:
            yield b"more"

    def close(self) -> None:
        _note("endless closed")


def endless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return _Endless()


def goes_on(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Has something to do after the last byte of its answer."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    yield b"12345"
    _wait_for_release()
    _note("went on")


def nothing_of_ten(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    return []


def line_break(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X-Name", "a\r\nSet-Cookie: stolen=1")])
    return [b"python"]


def bad_name(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X Name", "a")])
    return [b"python"]


def bad_length(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "many")])
    return [b"python"]


def endless_length(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "9" * 19)])
    return [b"python"]


def not_latin(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("X-Price", "5 €")])
    return [b"python"]


def answers_205(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("205 Reset Content", [*TEXT, ("Content-Length", "5")])
    return [b"12345"]


def shows_head(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What a handler sees of the request: one `key=value` a line."""
    lines = [f"{key}={value}" for key, value in sorted(environ.items()) if isinstance(value, str)]
    body = "\n".join(lines).encode("latin-1")
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def moves(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("302 Found", [("Location", "/old")])
    return []


moves_always = moves_round = moves_by_cache = moves_home = moves


def tests_cookies(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Whether a visitor takes cookies: they are sent here once more."""
    if "takes=1" in environ.get("HTTP_COOKIE", ""):
        return text(environ, start_response)
    start_response("302 Found", [("Location", "?"), ("Set-Cookie", "takes=1")])
    return []


def moves_away(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("302 Found", [("Location", "//elsewhere.test/")])
    return []


def moves_cached(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("301 Moved", [("Location", "/old"), ("Cache-Control", "public, max-age=60")])
    return []
