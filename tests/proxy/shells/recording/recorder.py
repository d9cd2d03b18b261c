"""The same as `index.php` for WSGI: notes every request whose body came whole."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Note it and answer."""
    length = environ.get("CONTENT_LENGTH")
    body = environ["wsgi.input"].read()
    if not length or len(body) == int(length):
        target = environ["RAW_URI"].encode("latin-1")
        seen = [environ["REQUEST_METHOD"], *(base64.b64encode(x).decode() for x in (target, body))]
        with open(os.environ["RECORD"], "a", encoding="ascii") as record:
            record.write(json.dumps(seen) + "\n")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"seen"]
