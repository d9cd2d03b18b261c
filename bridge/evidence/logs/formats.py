"""The formats of lines of text: those of every Apache and nginx, and one that the user names in
nginx's words (`$remote_addr …`) or Apache's (`%h …`).

Pure: a format becomes one expression that looks at each character once, so no line, however long
or odd, can hold it up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["KNOWN", "Format", "read_format"]

_NGINX = {
    "remote_addr": "client", "remote_user": "user", "time_local": "time", "time_iso8601": "time",
    "msec": "time", "request": "request", "request_method": "method", "request_uri": "target",
    "uri": "path", "document_uri": "path", "args": "query", "query_string": "query",
    "status": "status", "body_bytes_sent": "bytes", "bytes_sent": "bytes",
    "http_referer": "referer", "http_user_agent": "agent", "request_time": "seconds",
    "host": "host", "http_host": "host", "server_name": "host", "sent_http_set_cookie": "cookie",
}  # fmt: skip
_APACHE = {
    "h": "client", "a": "client", "u": "user", "t": "time", "r": "request", "m": "method",
    "U": "path", "q": "query", "s": "status", "b": "bytes", "B": "bytes", "O": "bytes",
    "D": "seconds", "T": "seconds", "v": "host", "V": "host", "i:referer": "referer",
    "i:user-agent": "agent", "i:host": "host", "o:set-cookie": "cookie",
}  # fmt: skip
_WORD = re.compile(
    r"\$(?:(?P<nginx>\w+)|\{(?P<braced>\w+)\})"
    r"|%[<>!\d,]*(?:\{(?P<name>[^}]*)\})?(?P<apache>\^?[A-Za-z]+?|%)"
)
_PASTED = re.compile(r"\s*log_format\s+\S+\s+(?:escape=\w+\s+)?(.*?);?\s*", re.DOTALL)
_PIECES = re.compile(r"'([^']*)'|\"((?:[^\"\\]|\\.)*)\"")


@dataclass(frozen=True)
class Format:
    """`line` finds a line, and has a group for each of `fields`; `scale` is what its times are
    multiplied with to be seconds."""

    name: str
    line: re.Pattern[str]
    fields: tuple[str, ...]
    scale: float = 1.0


def _value(after: str) -> str:
    """The expression of a value that ends where `after` begins."""
    if after.startswith('"'):
        return r'(?:[^"\\\n]++|\\.)*+'
    if not after:
        return r"[^\r\n]*+"
    return rf"[^{re.escape(after[0])}\n]*+"


def read_format(text: str) -> Format:
    """The format that `text` describes. Raises ValueError for one that cannot be read."""
    if pasted := _PASTED.fullmatch(text):
        pieces = [one or other for one, other in _PIECES.findall(pasted[1])]
        text = "".join(pieces) or pasted[1]
    if "$" not in text:
        text = text.replace('\\"', '"')
    words = list(_WORD.finditer(text))
    if not words:
        raise ValueError("it has no variable: write it as in nginx's log_format, or Apache's LogFormat")  # fmt: skip  # noqa: E501
    pattern, fields, scale, at = "", [], 1.0, 0
    for index, word in enumerate(words):
        pattern += re.escape(text[at : word.start()])
        at = word.end()
        if word["apache"] == "%":
            pattern += "%"
            continue
        after = text[at : words[index + 1].start() if index + 1 < len(words) else len(text)]
        if not after and index + 1 < len(words):
            raise ValueError(f"nothing stands between {word[0]} and {words[index + 1][0]}")
        field, value = _field(word), _value(after)
        if word["apache"] == "t" and not word["name"]:
            value = r"\[[^\]\n]*+\]"
        if (word["nginx"] or "").startswith("upstream_"):
            value = r"[^ \n]++(?:(?:,| :) [^ \n]++)*+"
        if field and field not in fields:
            fields.append(field)
            pattern += f"({value})"
            scale = _scale(word) if field == "seconds" else scale
        else:
            pattern += value
    pattern += re.escape(text[at:])
    known = set(fields)
    if not known & {"request", "target", "path"}:
        raise ValueError("it has no request: add $request or %r")
    return Format("the given format", _compile(pattern), tuple(fields), scale)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"^{pattern}\r?$", re.MULTILINE)


def _field(word: re.Match[str]) -> str:
    if name := word["nginx"] or word["braced"]:
        return _NGINX.get(name, "")
    letter, name = word["apache"], word["name"]
    if letter in ("i", "o") and name:
        return _APACHE.get(f"{letter}:{name.lower()}", "")
    if letter == "t" and name and name not in ("sec", "msec", "%s"):
        return "time" if name.startswith("%Y-%m-%d") else ""
    return _APACHE.get(letter, "")


def _scale(word: re.Match[str]) -> float:
    if word["apache"] == "D":
        return 1e-6
    return {"ms": 1e-3, "us": 1e-6}.get(word["name"] or "", 1.0)


_START = r"([^ \n]++) [^ \n]++ "
_REST = r' (\[[^\]\n]*+\]) "((?:[^"\\\n]++|\\.)*+)" (\d{3}|-) (\d{1,18}+|-)'
_COMMON = _START + r"([^\[\n]*?)" + _REST
_BEHIND_HOST = r"([^ \n]++) " + _START + r"([^ \n]++)" + _REST
_FIELDS = ("client", "user", "time", "request", "status", "bytes")
_MORE = r' "((?:[^"\\\n]++|\\.)*+)" "((?:[^"\\\n]++|\\.)*+)(?:"(?: [^\r\n]*+)?)?'
"""Referer, browser, and what some have behind it. A browser whose name was cut is one."""

KNOWN = (
    Format(
        "combined with the host first",
        _compile(_BEHIND_HOST + _MORE),
        ("host", *_FIELDS, "referer", "agent"),
    ),
    Format("common with the host first", _compile(_BEHIND_HOST), ("host", *_FIELDS)),
    Format("combined", _compile(_COMMON + _MORE), (*_FIELDS, "referer", "agent")),
    Format("common", _compile(_COMMON), _FIELDS),
)
"""What is tried, in this order: a user's name may have spaces, so with the host first is tried
before."""
