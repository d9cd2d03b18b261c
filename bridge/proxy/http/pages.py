"""Error pages: the site's own where routes.yaml names one, else a plain one.

A page says what a visitor can do and shows the request's id, which is in the access log too.
It never says what broke; that is the log's.
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from string import Template

__all__ = ["phrase", "render"]

_TEXT = {
    400: "Your browser sent something that this site does not understand.",
    404: "There is no such page.",
    405: "This cannot be done with this page.",
    408: "Your browser took too long to send everything. Please try again.",
    413: "What you sent is too large.",
    421: "This site does not answer under this name.",
    500: "Something went wrong on our side. Please try again.",
    501: "This site cannot do that.",
    502: "The site is not answering properly. Please try again in a moment.",
    503: "The site is busy. Please try again in a moment.",
    504: "The site took too long to answer. Please try again in a moment.",
    508: "This page refers back to itself without end.",
}

_PLAIN = Template("""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>$status $phrase</title></head>
<body>
<h1>$phrase</h1>
<p>$text</p>
<p><small>Request $request_id</small></p>
</body>
</html>
""")


def phrase(status: int) -> str:
    """The usual reason phrase of `status`."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def render(status: int, request_id: str, own: str | None = None) -> bytes:
    """The page for `status`. In the site's `own` HTML, `$status`, `$phrase`, `$text` and
    `$request_id` are filled in and any other `$` is left alone."""
    template = _PLAIN if own is None else Template(own)
    return template.safe_substitute(
        status=status,
        phrase=escape(phrase(status)),
        text=_TEXT.get(status, _TEXT[400 if status < 500 else 500]),
        request_id=escape(request_id),
    ).encode()
