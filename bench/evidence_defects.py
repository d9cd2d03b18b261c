"""The forge's Python side with noise, and with one of many defects switched on.

Its views are those of `examples.forge.consumer.views`; what they answer is damaged as the switch
says, `defects.active` or the environment's FORGE_DEFECT. Each defect knows on which page it shows
and under which place it has to be found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from werkzeug.wrappers import Request, Response

from bench.evidence_noise import add_noise
from examples.forge.consumer import views

__all__ = ["DEFECTS", "Defect", "Switch", "download", "project", "projects", "releases", "switch"]

Damage = Callable[[Response], None]


@dataclass(frozen=True)
class Defect:
    """page: the view on whose answers it shows. place: what the group of a difference that tells
    it has to match."""

    name: str
    page: str
    place: str
    damage: Damage


@dataclass
class Switch:
    """active: the defect that is on, or empty. noise: whether there is noise."""

    active: str = os.environ.get("FORGE_DEFECT", "")
    noise: bool = os.environ.get("FORGE_NOISE", "1") == "1"


switch = Switch()


def project(request: Request, name: str) -> Response:
    return _answer("project", views.project(request, name))


def releases(request: Request, name: str) -> Response:
    return _answer("releases", views.releases(request, name))


def projects(request: Request) -> Response:
    return _answer("projects", views.projects(request))


def download(request: Request, name: str, filename: str) -> Response:
    return _answer("download", views.download(request, name, filename))


def _answer(page: str, response: Response) -> Response:
    if switch.noise:
        add_noise(response)
    defect = DEFECTS.get(switch.active)
    if defect is not None and defect.page in (page, "any"):
        defect.damage(response)
    return response


def _text(old: str, new: str, count: int = 1) -> Damage:
    """Replaces what the pattern `old` matches in the page."""

    def damage(response: Response) -> None:
        text = response.get_data(as_text=True)
        response.set_data(re.sub(old, new, text, count=count, flags=re.DOTALL))

    return damage


def _bytes(change: Callable[[bytes], bytes]) -> Damage:
    def damage(response: Response) -> None:
        response.set_data(change(response.get_data()))

    return damage


def _header(name: str, value: str | None) -> Damage:
    def damage(response: Response) -> None:
        if value is None:
            response.headers.pop(name, None)
        else:
            response.headers[name] = value

    return damage


def _cookie(old: str, new: str) -> Damage:
    """Changes the cookie of the page, or takes it away where nothing is left."""

    def damage(response: Response) -> None:
        cookies = [re.sub(old, new, one) for one in response.headers.getlist("Set-Cookie")]
        response.headers.pop("Set-Cookie", None)
        for one in filter(None, cookies):
            response.headers.add("Set-Cookie", one)

    return damage


def _status(code: int) -> Damage:
    def damage(response: Response) -> None:
        response.status_code = code

    return damage


def _number(pattern: str, by: int) -> Damage:
    """Adds to the number that the group of the pattern matches."""

    def damage(response: Response) -> None:
        def other(match: re.Match[str]) -> str:
            number = int(match[1].replace(",", "")) + by
            whole, start = match[0], match.start(1) - match.start(0)
            return f"{whole[:start]}{number:,}{whole[start + len(match[1]) :]}"

        text = response.get_data(as_text=True)
        response.set_data(re.sub(pattern, other, text, count=1))

    return damage


def _rows(change: Callable[[list[str]], list[str]]) -> Damage:
    """Changes the rows of the page's table, without its head."""

    def damage(response: Response) -> None:
        text = response.get_data(as_text=True)
        rows = re.findall(r"<tr><td>.*?</tr>\n", text, re.DOTALL)
        first, last = text.index(rows[0]), text.rindex(rows[-1]) + len(rows[-1])
        response.set_data(text[:first] + "".join(change(rows)) + text[last:])

    return damage


def _mojibake(body: bytes) -> bytes:
    return body.decode("utf-8").encode("utf-8").decode("latin-1").encode("utf-8")


_CELLS = r"<td>([^<]*)</td>"

_ALL = (
    Defect("double-escape", "project", r"title", _text(" – Forge", " &amp;ndash; Forge")),
    Defect("lost-escape", "project", r"> b$", _text(r'(<p class="summary">)', r"\1<b>")),
    Defect("lost-rel", "project", r"a @rel", _text(' rel="nofollow"', "")),
    Defect("lost-class", "project", r"@class", _text(' class="summary"', "")),
    Defect("downloads-by-one", "project", r"td", _number(r"Downloads</th><td>([\d,]+)", 1)),
    Defect("size-by-one", "project", r"td", _number(r"size</th><td>([\d,]+)", -1)),
    Defect(
        "order-of-rows",
        "project",
        r"tr",
        _text(r"(<tr><th>Version.*?</tr>\n)(<tr><th>Section.*?</tr>\n)", r"\2\1"),
    ),
    Defect("lost-link", "project", r"\ba\b", _text(r' \| <a href="[^"]*/edit">Edit</a>', "")),
    Defect("lost-row", "project", r"tr", _text(r"<tr><th>Homepage.*?</tr>\n", "")),
    Defect("row-too-many", "project", r"tr", _text(r"(<tr><th>Section.*?</tr>\n)", r"\1\1")),
    Defect("wrong-link", "project", r"@href", _text('/releases">', '/release">')),
    Defect("wrong-title", "project", r"title", _text(r"<title>[^ ]+", "<title>Project")),
    Defect("wrong-hour", "project", r"td", _text(r"(Updated</th><td>[^<]*?)(\d):", r"\g<1>9:")),
    Defect("stale-field", "project", r"p", _text(r'(summary">)[^<]*', r"\1What it was before")),
    Defect("lost-word", "project", r"pre", _text(r"(<pre>\S+) \S+", r"\1")),
    Defect("wrong-language", "project", r"html @lang", _text('lang="en"', 'lang="de"')),
    Defect("lost-charset", "project", r"meta", _text('<meta charset="utf-8">\n', "")),
    Defect("truncated", "project", r"", _bytes(lambda body: body[: len(body) * 2 // 3])),
    Defect("empty", "project", r"", _bytes(lambda body: b"")),
    Defect(
        "wrong-charset",
        "project",
        r"Content-Type|charset",
        _header("Content-Type", "text/html; charset=iso-8859-1"),
    ),
    Defect(
        "wrong-type",
        "project",
        r"Content-Type",
        _header("Content-Type", "text/plain; charset=utf-8"),
    ),
    Defect("header-too-many", "project", r"Content-Language", _header("Content-Language", "en")),
    Defect("wrong-header", "project", r"Cache-Control", _header("Cache-Control", "max-age=600")),
    Defect("cookie-not-http-only", "project", r"visit.*HttpOnly", _cookie("; HttpOnly", "")),
    Defect("cookie-lost", "project", r"visit", _cookie("visit=.*", "")),
    Defect("cookie-path", "project", r"visit.*Path", _cookie("Path=/;", "Path=/project;")),
    Defect("cookie-same-site", "project", r"visit.*SameSite", _cookie("Lax", "None")),
    Defect("cookie-value", "project", r"visit", _cookie("visit=[^;]*", "visit=")),
    Defect("wrong-status", "project", r"status", _status(404)),
    Defect("mojibake", "projects", r"", _bytes(_mojibake)),
    Defect("lost-space", "project", r"pre", _text(r"(<pre>.*?)\n", r"\1 ")),
    Defect("moved-permanently", "download", r"status", _status(301)),
    Defect("wrong-location", "download", r"Location", _header("Location", "/mirror/elsewhere")),
    Defect("reversed", "releases", r"tr|table", _rows(lambda rows: rows[::-1])),
    Defect("row-lost", "releases", r"tr", _rows(lambda rows: rows[:-1] or rows * 2)),
    Defect("number-format", "releases", r"td", _text(r'(number">\d+),', r"\1")),
    Defect("file-name", "releases", r"a|@href", _text(r'(<a href="/download/[^"]*)"', r'\1.gz"')),
    Defect("wrong-page", "projects", r"@href", _text(r"\?p=2", "?p=3")),
    Defect("row-twice", "projects", r"tr", _rows(lambda rows: [rows[0], *rows])),
    Defect("field-name", "projects", r"input @name", _text('name="q"', 'name="query"')),
    Defect("method", "projects", r"form#find @method", _text('method="get"', 'method="post"')),
    # In places that are noisy, in another way than the noise.
    Defect("token-empty", "project", r"input @value", _text(r'(name="token" value=")\w+', r"\1")),
    Defect("counter-gone", "project", r"p", _text(r'("counter">)[\d,]+', r"\1undefined")),
    Defect("advertisement-lost", "project", r"li|ul", _text(r'<li class="ad">.*?</li>', "")),
)

DEFECTS = {defect.name: defect for defect in _ALL}
