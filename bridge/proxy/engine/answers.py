"""The bytes of an answer to a visitor. Pure."""

from __future__ import annotations

from bridge.proxy.http import pages
from bridge.proxy.http.wire import lowered
from bridge.proxy.request.head import Headers

__all__ = ["CONTINUE", "answer_head", "last_chunk", "refusal"]


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NOT_IN_TRAILERS = frozenset(
    ("content-length", "transfer-encoding", "host", "set-cookie", "connection", "trailer")
)


def answer_head(
    minor: int,
    status: int,
    reason: str,
    headers: Headers,
    date: str,
    *,
    close: bool,
    chunked: bool = False,
) -> bytes:
    """Status line and headers.

    minor: of HTTP/1.x.
    date: for where `headers` have none.
    close, chunked: whether the connection ends, and whether the body comes in chunks.
    """
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    text = "".join(lines)
    if "\r\nDate: " not in text and not text.startswith("Date: "):
        small = text.lower()
        if "\r\ndate: " not in small and not small.startswith("date: "):
            text += f"Date: {date}\r\n"
    if chunked:
        text += "Transfer-Encoding: chunked\r\n"
    if close:
        text += "Connection: close\r\n"
    else:  # HTTP/1.0 has to be told; HTTP/1.1 is by nginx and Apache
        text += "Connection: keep-alive\r\n"
    return f"HTTP/1.{minor} {status} {reason}\r\n{text}\r\n".encode("latin-1")


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body, with the trailers that may stand there (RFC 9110, 6.5.1)."""
    lines = [
        f"{name}: {value}\r\n"
        for name, value in trailers
        if lowered(name) not in _NOT_IN_TRAILERS and not lowered(name).startswith("x-bridge-")
    ]
    return f"0\r\n{''.join(lines)}\r\n".encode("latin-1")


def refusal(status: int, request_id: str, date: str) -> bytes:
    """The whole answer to what is no request: a page that repeats nothing of it."""
    html = pages.render(status, request_id)
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(html))),
    ]
    return answer_head(1, status, pages.phrase(status), headers, date, close=True) + html
