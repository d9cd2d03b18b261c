"""Lines of legacy's head that are no headers: dropped, told, and the page is served."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.proxy.http.wire import ResponseHead
from tests.proxy.shells.double import Backend, answer
from tests.proxy.shells.serving import Bridge

ODD = {
    "brackets in a name": b"WPDev-Redirect-Trace[01]: x",
    "an equals sign for a colon": b"X-Frame-Option=SameOrigin",
    "round brackets in a name": b"X-Cache(edge): HIT",
    "Latin-1 in a name": "X-Größe: 1".encode("latin-1"),
    "UTF-8 in a name": "X-Größe: 1".encode(),
    "a blank in a name": b"X Y: z",
    "no colon": b"no header",
    "no name": b": x",
    "a BEL in a value": b"X: a\x07b",
    "a DEL in a value": b"X: a\x7fb",
    "a BEL in a folded line": b"X: a\r\n b\x07c",
    "an odd line with folds": b"X Y: a\r\n b\r\n\tc",
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("place", ["first", "between", "last"])
def test_a_line_that_is_no_header_is_dropped_and_the_page_is_served(
    bridge: Bridge, backend: Backend, what: str, place: str
) -> None:
    """What stands around it arrives."""
    lines = [b"X-One: 1", b"Content-Length: 2", b"X-Two: 2"]
    lines.insert({"first": 0, "between": 2, "last": 3}[place], ODD[what])
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    backend.when("/odd", answer(head + b"ok"))

    got = bridge.ask("GET", "/odd")

    assert (got.status, got.body) == (200, b"ok")
    assert (got.get("X-One"), got.get("X-Two")) == ("1", "2")
    assert ODD[what].partition(b"\r\n")[0] not in got.raw


def test_a_folded_line_before_any_other_is_dropped(bridge: Bridge, backend: Backend) -> None:
    backend.when("/fold", answer(b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nok"))
    got = bridge.ask("GET", "/fold")
    assert (got.status, got.body, got.get("X")) == (200, b"ok", None)


TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\r\n\0"))


@given(st.lists(TEXT.filter(bool), max_size=8))
def test_whatever_the_lines_are_the_headers_between_them_arrive(lines: list[str]) -> None:
    """Or are folded on by the line after them, and dropped with it and told."""
    assume(not any(re.search("length|encoding", line, re.IGNORECASE) for line in lines))
    text = ["HTTP/1.1 200 OK"]
    for number, line in enumerate(lines):
        text += [line, f"X-Ours-{number}: here"]

    head = ResponseHead.parse("\r\n".join(text).encode("latin-1"))

    ours = [value for name, value in head.headers if name.startswith("X-Ours-")]
    dropped = [one for one in head.odd if one.startswith("X-Ours-")]
    assert len(ours) + len(dropped) == len(lines)
    assert all(value.startswith("here") for value in ours)


def test_what_was_dropped_is_told_by_its_beginning() -> None:
    """Folds belong to their line."""
    head = ResponseHead.parse(
        b"HTTP/1.1 200 OK\r\nX-Cache(edge): HIT\r\n MISS\r\nA: b\r\nX-Frame-Option=SameOrigin\r\n"
        b"B: c\r\n d\x01"
    )
    assert head.odd == ("X-Cache(edge)", "X-Frame-Option", "B")
    assert head.headers == [("A", "b")]
