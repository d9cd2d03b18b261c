"""The raw request target, and the one form of its path that routes are decided on.

Pure. The raw bytes are what is forwarded; the canonical path is only ever used to decide.
Where PHP, a web server and Python could read a path differently (`//`, `..`, `%2F`, a NUL,
bytes that are no UTF-8), there is no canonical path, and legacy answers as it always has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from bridge.errors import VisitorError

__all__ = ["Target", "parse_target"]

# Space and controls never belong into a request line (RFC 9112, section 3).
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A request target.

    `raw` is origin-form (or `*`) as Latin-1 text, byte for byte what legacy gets. `path` is
    the decoded path to decide on, or None, and then `oddity` says why. `authority` is the
    host of an absolute-form target, else empty.
    """

    raw: str
    path: str | None
    query: str
    authority: str = ""
    oddity: str = ""


def parse_target(method: str, raw: str) -> Target:
    """Read the raw target of a request line, given as Latin-1 text (RFC 9112, section 3.2). Raises
    VisitorError: 400 for what is no valid target, 405 for CONNECT, whose target names another
    host."""
    if method == "CONNECT":
        raise VisitorError(405, "CONNECT")
    if _FORBIDDEN.search(raw):
        raise VisitorError(400, "control character in the request target")
    authority = ""
    if raw == "*":
        if method != "OPTIONS":
            raise VisitorError(400, "the target * is for OPTIONS only")
        return Target("*", None, "", oddity="server-wide OPTIONS")
    if _ABSOLUTE.match(raw):
        scheme_end = raw.index("://") + 3
        path_start = min(
            (at for at in (raw.find(c, scheme_end) for c in "/?#") if at >= 0), default=len(raw)
        )
        authority, raw = raw[scheme_end:path_start], raw[path_start:]
        if not authority or "@" in authority:
            raise VisitorError(400, "absolute target without a plain host")
        if raw == "" and method == "OPTIONS":
            return Target("*", None, "", authority, oddity="server-wide OPTIONS")
        if not raw.startswith("/"):
            raw = "/" + raw
    if not raw.startswith("/"):
        raise VisitorError(400, "the request target must begin with /")
    path, _, query = raw.partition("?")
    if _PLAIN_PATH.fullmatch(path):
        return Target(raw, path, query, authority)
    decoded, oddity = _canonical(path)
    return Target(raw, decoded, query, authority, oddity)


def _canonical(path: str) -> tuple[str | None, str]:
    if "#" in path:
        return None, "a # in the target"
    if _BAD_ESCAPE.search(path):
        return None, "a % that is no escape"
    lowered = path.lower()
    for escape, name in (("%2f", "%2F"), ("%5c", "%5C"), ("%00", "%00")):
        if escape in lowered:
            return None, f"{name} in the path"
    try:
        decoded = unquote_to_bytes(path.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        return None, "path is not UTF-8"
    if "\\" in decoded or any(ord(c) < 0x20 or ord(c) == 0x7F for c in decoded):
        return None, "backslash or control character in the path"
    segments = decoded.split("/")
    if "" in segments[1:-1]:
        return None, "// in the path"
    if "." in segments or ".." in segments:
        return None, "dot segment in the path"
    return decoded, ""
