"""Where a browser goes for a Location: an address in one form, as the URL standard reads it.

Pure. Two addresses are the same for a browser if their forms here are equal; http and https are
not told apart, because behind a TLS terminator that is not known both arrive as http. Only
equality counts, so a form need not be the one that a browser shows.
https://url.spec.whatwg.org/#url-parsing
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import unquote_to_bytes

import idna

__all__ = ["resolve"]

_EDGES = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\n\r")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PORTS = {"http": 80, "https": 443}
_LOUD = re.compile(r"[\x00-\x20\x7f-\xff\"<>^`{}]")  # of a path: they are sent as escapes
_LOUD_QUERY = re.compile(r"[\x00-\x20\x7f-\xff\"#<>']")
_DOT, _TWO_DOTS = re.compile(r"\.|%2e", re.IGNORECASE), re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)
_NOT_IN_HOSTS = re.compile(r"[\x00-\x20#%/:<>?@\[\\\]^|\x7f]")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")


def resolve(scheme: str, host: str, target: str, location: str = "") -> str | None:
    """The form of the address that an answer names; None where a browser would not go by HTTP.

    scheme, host, target: of what was asked for; `target` begins with a slash and has its query.
    location: as in the header, Latin-1; without it the form is that of the request's own address.
    """
    text = location.strip(_EDGES).translate(_DROPPED)
    found = _SCHEME.match(text)
    if found:
        named = found[1].lower()
        if named not in _PORTS:
            return None
        text = text[found.end() :]
        if named != scheme or text[:2].replace("\\", "/") == "//":
            return _absolute(named, text.lstrip("/\\"))
    elif text[:2].replace("\\", "/") == "//":
        return _absolute(scheme, text.lstrip("/\\"))
    text = text.partition("#")[0]
    if text[:1] not in ("/", "\\"):
        path, mark, query = target.partition("?")
        if text[:1] == "?":
            text = path + text
        elif text:
            text = f"{path[: path.replace(chr(92), '/').rindex('/') + 1]}{text}"
        else:
            text = path + mark + query
    return _form(scheme, host, text)


def _absolute(scheme: str, text: str) -> str | None:
    """Of what stands after the slashes."""
    end = re.search(r"[/\\?#]", text)
    at = end.start() if end else len(text)
    authority, rest = text[:at], text[at:].partition("#")[0]
    return _form(scheme, authority.rpartition("@")[2], rest)


def _form(scheme: str, authority: str, rest: str) -> str | None:
    name, colon, port = authority.rpartition(":")
    if not colon or "]" in port:
        name, port = authority, ""
    if port and (not (port.isascii() and port.isdigit()) or int(port[-9:]) > 65535):
        return None
    host = _host(name)
    if not host:
        return None
    shown = "" if not port or int(port) == _PORTS[scheme] else f":{int(port)}"
    path, mark, query = rest.partition("?")
    return f"{host}{shown}{_path(path)}{mark}{_LOUD_QUERY.sub(_escape, query)}"


def _host(name: str) -> str | None:
    """The name in small letters, in ASCII, or an address; None for what is none."""
    if name.startswith("["):
        try:
            return f"[{int(ipaddress.IPv6Address(name[1:].removesuffix(']'))):x}]"
        except ValueError:
            return None
    if not name.isascii() or "%" in name:
        try:
            decoded = unquote_to_bytes(name.encode("latin-1")).decode()
            name = idna.encode(decoded, uts46=True).decode() if not decoded.isascii() else decoded
        except (UnicodeError, ValueError):
            return None
    name = name.lower()
    if _NOT_IN_HOSTS.search(name):
        return None
    last = name.removesuffix(".").rpartition(".")[2]
    if not _NUMBER.fullmatch(last):
        return name
    try:
        return socket.inet_ntoa(socket.inet_aton(name.removesuffix(".")))
    except OSError:
        return None


def _path(path: str) -> str:
    segments: list[str] = []
    parts = path.replace("\\", "/").removeprefix("/").split("/")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if _TWO_DOTS.fullmatch(part):
            if segments:
                segments.pop()
            part = "."
        if _DOT.fullmatch(part):
            if last:
                segments.append("")
        else:
            segments.append(_LOUD.sub(_escape, part))
    return "/" + "/".join(segments)


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
