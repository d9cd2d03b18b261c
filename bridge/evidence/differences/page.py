"""One file that shows differences to people: HTML without scripts that asks nobody for anything.

What it shows is written by strangers. It is escaped, signs that cannot be seen are shown as
escapes, and a policy in the file lets a browser run and fetch nothing but the style that is in it.
Pure.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from bridge.evidence.differences.beside import Piece, Row, beside, head_of, plain
from bridge.evidence.differences.found import Counts, Group, Page, Sample
from bridge.evidence.rate import percent, upper_bound

__all__ = ["MOST_GROUPS", "Shelf", "page"]

Shelf = Sequence[tuple[Group, Sequence[Sample]]]
"""Groups with their samples."""

MOST_GROUPS = 200
"""That are shown in one file."""

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1c1f24;--faint:#5b6470;--line:#d5dae1;
--card:#f6f7f9;--del:#ffd7d5;--deltext:#6e0b0b;--ins:#c8f0d0;--instext:#0b4a1c;--link:#0a58ca}
@media(prefers-color-scheme:dark){:root{--back:#15181c;--text:#e4e7eb;--faint:#9aa4b0;
--line:#343b44;--card:#1d2127;--del:#5c1f22;--deltext:#ffdcd9;--ins:#16472a;--instext:#d3f7dd;
--link:#7ab2ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:16px;max-width:1500px;background:var(--back);color:var(--text);
font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4em;margin:0 0 4px}h2{font-size:1.05em;margin:0}p{margin:4px 0}
.faint{color:var(--faint)}a{color:var(--link)}
.scroll{overflow-x:auto}
table.sum{border-collapse:collapse;margin:12px 0 24px;font-variant-numeric:tabular-nums;
overflow-wrap:normal}
.sum th,.sum td{padding:4px 10px 4px 0;text-align:right;border-bottom:1px solid var(--line)}
.sum th:first-child,.sum td:first-child{text-align:left}
section{margin:0 0 20px;padding:12px;background:var(--card);border:1px solid var(--line);
border-radius:8px}
details{margin-top:8px}summary{cursor:pointer}
.both{width:100%;table-layout:fixed;border-collapse:collapse;margin-top:8px;
background:var(--back);border:1px solid var(--line);font:12px/1.5 ui-monospace,monospace}
.both th{text-align:left;padding:4px 8px;border-bottom:1px solid var(--line)}
.both td{padding:0 8px;vertical-align:top;white-space:pre-wrap;border-left:3px solid transparent;
unicode-bidi:isolate}
.both .m td:first-child{border-left-color:#c93c37}.both .m td:last-child{border-left-color:#2f9e55}
.both .o td{color:var(--faint);text-align:center;background:var(--card)}
del,ins{text-decoration:none;border-radius:2px}
del{background:var(--del);color:var(--deltext)}ins{background:var(--ins);color:var(--instext)}
.side{display:none;color:var(--faint)}
@media(max-width:700px){body{padding:10px}section{padding:8px}
.both,.both tbody,.both tr,.both td{display:block}.both thead{display:none}
.both td:empty{display:none}.both .m{border-top:1px solid var(--line)}
.both .m td .side{display:inline}.both tr:not(.m) td+td{display:none}}
@media print{details{display:block}section{break-inside:avoid}}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def page(shelf: Shelf, counts: Mapping[str, Counts], release: str, at: float) -> str:
    """The whole file.

    shelf: the groups, in their order.
    counts: by route, of `release`.
    release: whose counts these are.
    at: Unix seconds of now.
    """
    shown = shelf[:MOST_GROUPS]
    left = len(shelf) - len(shown)
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Differences</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        "<h1>Differences between legacy and Python</h1>\n"
        f'<p class="faint">Release {_safe(release)}, {_when(at)} UTC. Cookies, authorization and '
        "what was configured are blacked out as ●●●.</p>\n"
        f"{_counts(counts)}"
        f"{''.join(_group(group, samples) for group, samples in shown)}"
        f"{f'<p>{left:,} more are left out.</p>' if left else ''}"
        f"{'' if shelf else '<p>Nothing was found.</p>'}"
        "</body></html>\n"
    )


def _safe(text: str) -> str:
    return escape(plain(text))


def _when(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "at a time unknown"


def _counts(counts: Mapping[str, Counts]) -> str:
    if not counts:
        return "<p>Nothing of this release was compared.</p>\n"
    heads = ("Route", "Compared", "Same", "Noise", "Lag", "Different", "Under (95%)")
    rows = []
    for route, one in counts.items():
        bound = percent(upper_bound(one.different, one.compared)) if one.compared else "–"
        numbers = (one.compared, one.same, one.noise, one.lag, one.different)
        cells = [_safe(route), *(f"{number:,}" for number in numbers), bound]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{word}</th>" for word in heads)
    return (
        f'<div class="scroll"><table class="sum"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _group(group: Group, samples: Sequence[Sample]) -> str:
    times = "once" if group.count == 1 else f"{group.count:,} times"
    newest = list(reversed(samples))
    return (
        f'<section id="d{group.id}"><h2>{group.id}. {_safe(group.route)}: '
        f"{_safe(group.place)}</h2>\n"
        f'<p class="faint">{_safe(group.what)}, {group.kind.value}, {times}, '
        f"{_when(group.first)} – {_when(group.last)} UTC, release {_safe(group.release)}</p>\n"
        f"{''.join(_sample(one, is_open=not at) for at, one in enumerate(newest))}"
        f"{'' if samples else '<p>No sample of it is kept any more.</p>'}"
        "</section>\n"
    )


def _sample(sample: Sample, *, is_open: bool) -> str:
    asked, one = sample.asked, sample.difference
    why = f"<p>{_safe(sample.why)}</p>" if sample.why else ""
    excerpt = [Row("!", ((plain(one.legacy), True),), ((plain(one.python), True),))]
    bodies = beside(*(page.text if page else "" for page in (sample.legacy, sample.python)))
    heads = beside(head_of(sample.legacy), head_of(sample.python))
    return (
        f"<details{' open' if is_open else ''}><summary>{_safe(asked.method)} "
        f"{_safe(asked.host)}{_safe(asked.target)} – {_when(sample.at)} UTC</summary>\n{why}"
        f"<p>At <code>{_safe(one.place)}</code></p>{_both(excerpt, 'Excerpt')}"
        f"{_both(heads, 'Head')}{_both(bodies, 'Body')}"
        f"{_left_out('Legacy', sample.legacy)}{_left_out('Python', sample.python)}</details>\n"
    )


def _left_out(side: str, page: Page | None) -> str:
    if page is None:
        return f"<p>{side} gave no answer.</p>"
    if not page.left_out:
        return ""
    of = f"{page.length:,} bytes, SHA-256 {_safe(page.digest[:12])}…"
    return f'<p class="faint">Body of {side}: {_safe(page.left_out)} ({of}).</p>'


def _both(rows: Sequence[Row], what: str) -> str:
    if not any(row.mark not in " …" for row in rows):
        return f'<p class="faint">{what}: equal.</p>' if rows else ""
    lines = "".join(_row(row) for row in rows)
    return (
        f'<table class="both" dir="ltr"><thead><tr><th>{what}: legacy</th>'
        f"<th>{what}: Python</th></tr></thead><tbody>{lines}</tbody></table>\n"
    )


def _row(row: Row) -> str:
    if row.mark == "…" and row.legacy:
        return f'<tr class="o"><td colspan="2">… {_safe(row.legacy[0][0])} …</td></tr>\n'
    if row.mark == " ":
        return f"<tr>{_cell(row.legacy, 'del', '')}{_cell(row.python, 'ins', '')}</tr>\n"
    legacy, python = _cell(row.legacy, "del", "legacy"), _cell(row.python, "ins", "Python")
    return f'<tr class="m">{legacy}{python}</tr>\n'


def _cell(pieces: Sequence[Piece] | None, element: str, side: str) -> str:
    if pieces is None:
        return "<td></td>"
    name = f'<span class="side">{side}: </span>' if side else ""
    text = "".join(
        f"<{element}>{escape(part)}</{element}>" if marked and part else escape(part)
        for part, marked in pieces
    )
    return f"<td>{name}{text}</td>"
