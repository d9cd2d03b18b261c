"""What may not be kept of a request and its answers, and what stands in its place. Pure.

Names stay, values become `●●●`: cookies, authorization, what URLs carry under names such as
`password` and `token`, and wherever else such a value stands: a session's id is in links, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from urllib.parse import quote, unquote_plus

from bridge.proxy.request.head import Headers

__all__ = ["MASK", "Secrets", "is_secret_name", "of_headers", "of_text"]

MASK = "●●●"

_HEADERS = frozenset(
    (
        "authorization",
        "proxy-authorization",
        "authentication-info",
        "proxy-authentication-info",
        "x-api-key",
        "x-auth-token",
        "x-csrf-token",
        "x-xsrf-token",
        "x-amz-security-token",
        "x-amzn-oidc-data",
    )
)
_NO_SECRETS = frozenset({"surrogate-key", "xkey", "x-cache-key", "idempotency-key"})
"""Headers whose names look as if they had some."""

_PARTS = (
    "passw",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "session",
    "sessid",
    "signature",
    "credential",
    "csrf",
    "xsrf",
    "apikey",
    "nonce",
    "sectok",
)
_WORDS = frozenset(
    ("auth", "code", "jwt", "key", "oauth", "otp", "pass", "pin", "sid", "sig", "ticket")
)
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
# Each piece is bounded on its left by a sign that it cannot have itself: one look at each sign.
_PAIR = re.compile(
    r"(?P<name>(?<=[?&;#])[^=&;#?\s\"'<>]{1,80})=(?P<value>[^&;#\s\"'<>\\]+)", re.ASCII
)
_USER = re.compile(r"(?<=//)[^/?#\s\"'<>@]{1,256}@")
_COOKIE = re.compile(r"(?P<name>[^=;]*)=(?P<value>[^;]*)")
_SHORTEST = 8  # characters; shorter ones are words of the page as well
_MOST = 200


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name may carry what nobody else should have."""
    plain = unquote_plus(name).removesuffix("[]")
    folded = re.sub(r"[^a-z0-9]", "", plain.lower())
    if any(part in folded for part in _PARTS):
        return True
    return folded in _WORDS or any(word.lower() in _WORDS for word in _WORD.findall(plain[-80:]))


def _is_secret_header(lowered: str) -> bool:
    return lowered in _HEADERS or (lowered not in _NO_SECRETS and is_secret_name(lowered))


def _pairs(text: str) -> Iterator[re.Match[str]]:
    for match in _PAIR.finditer(text):
        # In HTML `&` is written `&amp;`, and its `;` stands before the name.
        if is_secret_name(match["name"]):
            yield match


def of_text(text: str) -> str:
    """Without the values of secret parameters and the users of URLs in it."""

    def masked(match: re.Match[str]) -> str:
        return f"{match['name']}={MASK if is_secret_name(match['name']) else match['value']}"

    return _USER.sub(f"{MASK}@", _PAIR.sub(masked, text))


def of_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same headers with names of cookies and without their values."""
    return [(name, _of_header(name.lower(), value)) for name, value in headers]


def _of_header(lowered: str, value: str) -> str:
    if _is_secret_header(lowered):
        kind, space, rest = value.partition(" ")
        return f"{kind} {MASK}" if space and rest and kind.isalpha() else MASK
    if lowered == "cookie":
        return "; ".join(_of_cookie(pair.strip()) for pair in value.split(";"))
    if lowered == "set-cookie":
        pair, semicolon, attributes = value.partition(";")
        return f"{_of_cookie(pair)}{semicolon}{of_text(attributes)}"
    return of_text(value)


def _of_cookie(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return f"{name}={MASK if value else ''}" if equals else (MASK if pair else "")


class Secrets:
    """The values that must not be kept, whatever stands around them.

    of: headers and targets of a request, and of what was answered.
    """

    def __init__(self, headers: Iterable[Headers], texts: Iterable[str] = ()) -> None:
        found: dict[str, None] = {}
        for some in headers:
            for name, value in some:
                found.update(dict.fromkeys(_values(name.lower(), value)))
        for text in texts:
            found.update(dict.fromkeys(match["value"] for match in _pairs(text)))
        long = [value for value in found if len(value) >= _SHORTEST][:_MOST]
        written = {form for value in long for form in _forms(value)}
        # The longest first: one may be a part of another.
        self._written = sorted(written, key=lambda one: (-len(one), one))

    def out_of(self, text: str) -> str:
        """`text` without them, without secret parameters, and without users of URLs."""
        for value in self._written:
            if value in text:
                text = text.replace(value, MASK)
        return of_text(text)

    def out_of_headers(self, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The same headers, without the values."""
        return [(name, self.out_of(value)) for name, value in of_headers(headers)]

    def out_of_excerpt(self, place: str, text: str) -> str:
        """An excerpt of a difference at `place`, without the values."""
        kind, _, name = place.partition(" ")
        lowered = name.partition(";")[0].strip().lower()
        if kind == "cookie" and ";" not in name:
            # Either the value alone, or the whole line.
            pair, semicolon, attributes = text.partition(";")
            own = pair.strip().lower().startswith(f"{lowered}=")
            shown = _of_cookie(pair) if own else (MASK if text else "")
            return f"{shown}{semicolon}{attributes}" if own else shown
        if kind == "header":
            return self.out_of(_of_header(lowered, text)) if text else ""
        return self.out_of(text)


def _values(lowered: str, value: str) -> Iterator[str]:
    if _is_secret_header(lowered):
        yield from value.split()[-1:]
    elif lowered in ("cookie", "set-cookie"):
        pairs = value.split(";")
        for pair in pairs if lowered == "cookie" else pairs[:1]:
            if (match := _COOKIE.match(pair)) and match["value"]:
                yield match["value"].strip().strip('"')
    else:
        yield from (match["value"] for match in _pairs(value))


def _forms(value: str) -> set[str]:
    """How a value may be written elsewhere."""
    plain = unquote_plus(value)
    forms = {value, plain, quote(plain, safe="", errors="replace"), escape(plain), escape(value)}
    return {form for form in forms if len(form) >= _SHORTEST}
