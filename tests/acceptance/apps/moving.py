"""A handler whose redirect legacy answers with one back."""

from __future__ import annotations

from wsgiref.types import StartResponse, WSGIEnvironment


def round_and_round(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Send the visitor to legacy, which sends them back."""
    start_response("302 Found", [("Location", "/moved.php?to=/round"), ("Content-Length", "0")])
    return []
