"""The file to hand around: nothing in it runs, nothing is fetched, and people can read it."""

from __future__ import annotations

import html
import http.server
import json
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.answers import Asked
from bridge.evidence.differences.found import Counts, Group, Kind, Page, Sample, Shown
from bridge.evidence.differences.page import MOST_GROUPS, page
from stack.chromium import Chromium

WORDS = {"p", "h1", "h2", "section", "details", "summary", "code", "div", "span", "del", "ins"}
TABLES = {"table", "thead", "tbody", "tr", "th", "td"}
TOP = {"html", "head", "meta", "title", "style", "body"}


def hostile(address: str = "https://evil.example") -> str:
    """What a page would do to the page that shows it."""
    return (
        f'</td></table></script></style><base href="{address}/"><style>*{{display:none}}</style>'
        f'<script>document.title="pwned"</script><img src="{address}/x.png" onerror="pwned()">'
        f'<link rel=stylesheet href="{address}/x.css"><iframe src="{address}"></iframe>'
        f'<meta http-equiv=refresh content="0;url={address}/">\u202egnp.exe\0\x1b[2J ]]> --> <!--'
        "\" onmouseover='pwned()' &#60;script&#62; &lt;b&gt; \u2066\ufeff\ud800"
    )


def shelf(bad: str, groups: int = 1) -> list[tuple[Group, list[Sample]]]:
    side = Page(200, bad, [(bad, bad), ("Content-Type", "text/html")], bad, 5, bad, bad)
    other = Page(404, "Not Found", [("Content-Type", "text/html")], f"<p>two\n{bad}", 5, "00")
    lines = "\n".join(f"<p>line {number} of the page, which is long enough" for number in range(30))
    longer = Page(200, "OK", [], lines, 5, "00")
    shorter = Page(200, "OK", [], lines.replace("line 15", "line fifteen"), 5, "00")
    asked = Asked("GET", f"/{bad}", bad, [])
    found = Shown(bad, bad, bad, bad, "other")
    samples = [
        Sample(1e9, "compare", "r1", asked, side, other, found, bad),
        Sample(2e9, "shadow", "r1", asked, longer, shorter, found),
        Sample(3e9, "shadow", "r1", asked, None, other, found),
    ]
    return [
        (Group(at, bad, bad, bad, Kind.DIFFERENT, 3, 1.0, 2.0, bad, "", ("compare",)), samples)
        for at in range(1, groups + 1)
    ]


class Elements(HTMLParser):
    """Names of elements and attributes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    return found


@given(st.text() | st.just(hostile()))
def test_whatever_is_shown_the_file_has_its_own_elements_only(bad: str) -> None:
    made = page(shelf(bad), {bad: Counts(same=3)}, bad, 1e9)
    found = read(made)

    assert found.names <= WORDS | TABLES | TOP
    assert found.attributes <= {"class", "id", "colspan", "open", "dir", "lang", "charset"} | {
        "http-equiv",
        "content",
        "name",
    }
    made.encode()
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", made)


def test_a_policy_forbids_scripts_and_requests() -> None:
    made = page(shelf("x"), {}, "r1", 1e9)
    policy = html.unescape(re.findall(r'Security-Policy" content="([^"]*)"', made)[0])

    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "url(" not in made
    assert "http" not in made.replace("http-equiv", "")


def test_what_it_shows_can_be_read_in_it() -> None:
    text = read(page(shelf("some place", 2), {"project": Counts(same=300)}, "r1", 1e9)).text

    assert "some place" in text
    assert "project30030000" in text.replace("\n", "")
    assert "1%" in text
    assert "fifteen" in text
    assert "gave no answer" in text
    assert "12 equal lines" in text


def test_a_file_is_bounded() -> None:
    text = page(shelf("x", MOST_GROUPS + 5), {}, "r1", 1e9)

    assert text.count("<section") == MOST_GROUPS
    assert "5 more are left out" in text


def test_without_anything_found_it_says_so() -> None:
    text = page([], {}, "r1", 1e9)
    assert "Nothing was found" in text
    assert "Nothing of this release was compared" in text


WRAPPER = """<!doctype html><title>w</title><body>
<iframe id=f360 src=found.html width=360 height=900></iframe>
<iframe id=f1400 src=found.html width=1400 height=900></iframe>
<script>
onload = () => {
  const seen = {};
  for (const width of [360, 1400]) {
    const page = document.getElementById("f" + width).contentDocument;
    page.querySelectorAll("details").forEach((one) => { one.open = true; });
    const root = page.documentElement;
    const top = (cell) => cell.getBoundingClientRect().top;
    const rows = [...page.querySelectorAll("tr.m")].filter(
      (row) => row.cells[0].textContent && row.cells[1].textContent);
    const mark = page.querySelector("del");
    seen[width] = {
      wide: root.scrollWidth - root.clientWidth,
      beside: rows.filter((row) => top(row.cells[0]) === top(row.cells[1])).length,
      rows: rows.length,
      size: Math.min(...[...page.querySelectorAll("td, p, h2")].map(
        (one) => parseFloat(page.defaultView.getComputedStyle(one).fontSize))),
      back: page.defaultView.getComputedStyle(page.body).backgroundColor,
      text: page.defaultView.getComputedStyle(page.body).color,
      mark: page.defaultView.getComputedStyle(mark).backgroundColor,
      title: page.title,
      shown: page.body.innerText.includes("document.title"),
      foreign: page.querySelectorAll("script, img, base, link, iframe").length,
      handlers: page.querySelectorAll("[onerror], [onmouseover]").length,
    };
  }
  const said = document.createElement("pre");
  said.textContent = "SEEN" + JSON.stringify(seen) + "NEES";
  document.body.append(said);
};
</script>
"""


class Noting(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and notes every path."""

    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The file and a page that looks at it, at an address; and what was asked for there."""
    paths: list[str] = []

    class Handler(Noting):
        def __init__(self, *args: Any) -> None:
            self.paths = paths
            super().__init__(*args, directory=str(tmp_path / "served"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        (tmp_path / "served").mkdir()
        made = page(shelf(hostile(address)), {"project": Counts(same=300)}, "r1", 1e9)
        made += page(shelf("project"), {}, "r1", 1e9).partition("<body>")[2]
        (tmp_path / "served" / "found.html").write_text(made, encoding="utf-8")
        (tmp_path / "served" / "wrapper.html").write_text(WRAPPER, encoding="utf-8")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address, paths
        server.shutdown()


@pytest.mark.programs
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_real_browser_shows_it(
    served: tuple[str, list[str]], tmp_path: Path, scheme: str
) -> None:
    address, paths = served
    number = 0 if scheme == "dark" else 1
    words = ["--dump-dom", f"--blink-settings=preferredColorScheme={number}"]
    shown = Chromium.shown(f"{address}/wrapper.html", tmp_path / "profile", more=words)
    seen = json.loads(html.unescape(re.findall("SEEN(.*)NEES", shown)[-1]))

    for width in ("360", "1400"):
        one = seen[width]
        assert (one["title"], one["foreign"], one["handlers"]) == ("Differences", 0, 0)
        assert one["shown"]
        assert one["wide"] <= 0
        assert one["size"] >= 12
        light = sum(map(int, re.findall(r"\d+", one["back"])[:3])) > 380
        assert light is (scheme == "light")
        assert len({one["back"], one["text"], one["mark"]}) == 3
    assert seen["1400"]["beside"] == seen["1400"]["rows"] > 3
    assert seen["360"]["beside"] == 0
    assert set(paths) <= {"/wrapper.html", "/found.html", "/favicon.ico"}


@pytest.mark.programs
def test_a_real_browser_makes_a_picture_of_it(
    served: tuple[str, list[str]], tmp_path: Path
) -> None:
    """It is more than an empty page: an empty one of this size has a few kilobytes."""
    picture = tmp_path / "shot.png"
    words = [f"--screenshot={picture}", "--window-size=1400,1600", "--hide-scrollbars"]
    Chromium.shown(f"{served[0]}/found.html", tmp_path / "profile", more=words)

    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size > 40_000
