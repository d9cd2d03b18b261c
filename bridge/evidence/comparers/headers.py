"""Header fields by what they mean, and each cookie by its attributes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from bridge.evidence.comparers.found import Found
from bridge.evidence.comparers.ignoring import Effect
from bridge.proxy.request.head import Headers

__all__ = ["found_in_headers"]

_MOMENT = (
    "date age connection keep-alive proxy-connection transfer-encoding trailer upgrade te "
    "content-length via warning alt-svc host"
)
_MEASURED = (
    "x-request-id x-correlation-id x-trace-id traceparent tracestate server-timing x-runtime"
)
_TELL_TALES = "server x-powered-by x-aspnet-version x-generator"
_LEFT_OUT = frozenset(f"{_MOMENT} {_MEASURED} {_TELL_TALES}".split())
"""Never compared: docs/evidence.md says why."""

_LISTS = (
    "vary allow cache-control content-language accept-ranges accept-patch accept-post "
    "access-control-allow-headers access-control-allow-methods access-control-expose-headers "
    "clear-site-data permissions-policy feature-policy pragma x-robots-tag link www-authenticate"
)
_SETS = frozenset(_LISTS.split())
"""Lists whose order means nothing: compared as sets of parts."""

_ANY_CASE = (
    "vary cache-control accept-ranges access-control-allow-headers access-control-expose-headers "
    "content-language pragma x-frame-options x-content-type-options referrer-policy "
    "content-encoding x-robots-tag"
)
_CASELESS = frozenset(_ANY_CASE.split())
_DATES = frozenset({"expires", "last-modified", "retry-after", "sunset", "deprecation"})
_NEAR = 5.0  # seconds: both sides are asked one after the other
_ATTRIBUTE = {
    "path": "Path",
    "domain": "Domain",
    "secure": "Secure",
    "httponly": "HttpOnly",
    "samesite": "SameSite",
    "partitioned": "Partitioned",
    "priority": "Priority",
}
_PARTS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<]|["<])+')


def found_in_headers(old: Headers, new: Headers, effect: Effect) -> list[Found]:
    """Where the headers of two answers differ.

    Order and case of names mean nothing, lists count as sets where HTTP says so, dates as dates,
    and relative to the Date of their answer where they have one.
    """
    mine, yours = _fields(old), _fields(new)
    dates = (_date(mine, "date"), _date(yours, "date"))
    found: list[Found] = []
    for name in [*mine, *(name for name in yours if name not in mine)]:
        if name in _LEFT_OUT or name == "set-cookie":
            continue
        one, other = mine.get(name), yours.get(name)
        if _meaning(name, one, dates[0]) == _meaning(name, other, dates[1]):
            continue
        if name in _DATES and one and other and _near(one[1], other[1], dates):
            continue
        texts = [effect.without(field[1]) if field else "" for field in (one, other)]
        if one and other and texts[0] == texts[1]:
            continue
        if effect.header(name):
            continue
        title = (one or other or ("", ""))[0]
        place = f"header {_title(title)}"
        what = "missing" if other is None else "added" if one is None else "changed"
        found.append(_found(place, what, texts))
    cookies = _found_in_cookies(old, new, effect, dates)
    if cookies and not effect.header("set-cookie"):
        found += cookies
    return found


def _found(place: str, what: str, texts: list[str]) -> Found:
    kind = "value" if what == "changed" else "node"
    return Found(place, what, place, texts[0], texts[1], place, kind)


def _title(name: str) -> str:
    """As headers are written: Content-Type."""
    special = {"etag": "ETag", "www-authenticate": "WWW-Authenticate"}
    return special.get(name.lower(), "-".join(part.capitalize() for part in name.split("-")))


def _fields(headers: Headers) -> dict[str, tuple[str, str]]:
    """By name in lower case: the name as written, and all values, joined as HTTP joins them."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        key = name.lower()
        value = value.strip(" \t")
        if key in found:
            value = f"{found[key][1]}, {value}"
        found[key] = (name, value)
    return found


def _meaning(name: str, field: tuple[str, str] | None, date: float | None) -> object:
    """What two values are that mean the same."""
    if field is None:
        return None
    value = field[1]
    if name == "content-type":
        return _media(value)
    if name == "etag":
        # Weak and strong ones are told apart by range requests alone, and compressing weakens.
        return value.removeprefix("W/")
    if name == "content-disposition":
        return _media(value)
    if name in _CASELESS:
        value = value.lower()
    if name in _SETS:
        return frozenset(
            re.sub(r"\s*([;=])\s*", r"\1", part.strip()) for part in _PARTS.findall(value)
        ) - {""}
    if name == "strict-transport-security" or name == "content-security-policy":
        return frozenset(" ".join(part.lower().split()) for part in value.split(";")) - {""}
    return value


def _media(value: str) -> object:
    """Type and parameters, without quotes and the spaces between."""
    head, *rest = re.split(r";(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", value[:4096])
    parameters = set()
    for one in rest:
        name, _, given = one.strip().partition("=")
        name, given = name.strip().lower(), given.strip()
        if len(given) > 1 and given[0] == given[-1] == '"':
            given = re.sub(r"\\(.)", r"\1", given[1:-1])
        if name:
            parameters.add((name, given.lower() if name == "charset" else given))
    return head.strip().lower(), frozenset(parameters), value[4096:]


def _date(fields: dict[str, tuple[str, str]], name: str) -> float | None:
    return _seconds(fields[name][1]) if name in fields else None


def _seconds(value: str) -> float | None:
    """A date of HTTP as seconds since 1970, None where it is none."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _near(one: str, other: str, dates: tuple[float | None, float | None]) -> bool:
    mine, yours = _seconds(one), _seconds(other)
    if mine is None or yours is None:
        return False
    if abs(mine - yours) <= _NEAR:
        return True
    # As far from the moment of their answers: what counts from the time of the request.
    if dates[0] is not None and dates[1] is not None:
        return abs((mine - dates[0]) - (yours - dates[1])) <= _NEAR
    return False


# --- cookies


def _found_in_cookies(
    old: Headers, new: Headers, effect: Effect, dates: tuple[float | None, float | None]
) -> list[Found]:
    mine, yours = dict(_cookies(old, dates[0])), dict(_cookies(new, dates[1]))
    found: list[Found] = []
    for key in [*mine, *(key for key in yours if key not in mine)]:
        one, other = mine.get(key), yours.get(key)
        place = f"cookie {key}"
        if one is None or other is None:
            what = "missing" if other is None else "added"
            texts = [_shown(key, each) if each else "" for each in (one, other)]
            found.append(_found(place, what, texts))
            continue
        for name in sorted(one.keys() | other.keys()):
            values = one.get(name), other.get(name)
            if values[0] == values[1]:
                continue
            if name == "Expires" and _alike(values[0], values[1]):
                continue
            texts = [effect.without(value or "") for value in values]
            if texts[0] == texts[1] and None not in values:
                continue
            what = "missing" if values[1] is None else "added" if values[0] is None else "changed"
            where = f"{place}; {name}" if name else place
            found.append(_found(where, what, texts))
    return found


def _cookies(headers: Headers, date: float | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Each by its name, and [2] and so on where it is there again: attributes by name, the value
    under the empty one."""
    times: dict[str, int] = {}
    for name, line in headers:
        if name.lower() != "set-cookie":
            continue
        first, *rest = line.split(";")
        key, sign, value = first.partition("=")
        key = key.strip() if sign else ""
        attributes = {"": (value if sign else first).strip()}
        age = None
        for part in rest:
            what, _, given = part.strip().partition("=")
            what, given = what.strip().lower(), given.strip()
            if what == "max-age":
                age = float(given) if re.fullmatch(r"-?\d{1,15}", given) else None
            elif what == "expires" and "Expires" not in attributes:
                seconds = _seconds(given)
                if seconds is not None and date is not None:
                    attributes["Expires"] = f"in {seconds - date:.0f} s"
                else:
                    attributes["Expires"] = given
            elif what in _ATTRIBUTE:
                given = given.lower() if what == "samesite" else given
                attributes[_ATTRIBUTE[what]] = (
                    given.lstrip(".").lower() if what == "domain" else given
                )
            elif what:
                attributes[what[:40]] = given
        if age is not None:
            attributes["Expires"] = f"in {age:.0f} s"  # Max-Age wins (RFC 6265, 5.3)
        times[key] = times.get(key, 0) + 1
        yield (key if times[key] == 1 else f"{key}[{times[key]}]"), attributes


def _alike(one: str | None, other: str | None) -> bool:
    """Whether two ends of a cookie's life are the same, but for the seconds between the answers."""
    if one is None or other is None:
        return False
    first, second = (re.fullmatch(r"in (-?\d+) s", text) for text in (one, other))
    if first and second:
        mine, yours = float(first[1]), float(second[1])
        return abs(mine - yours) <= _NEAR or (mine <= 0 and yours <= 0)
    near = _near(one, other, (None, None))
    return near


def _shown(name: str, attributes: dict[str, str]) -> str:
    rest = "".join(
        f"; {key}={value}" if value else f"; {key}" for key, value in attributes.items() if key
    )
    return f"{name}={attributes['']}{rest}"
