"""A copy comes out of its bytes as it went in, however they are cut; all else is refused."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.shadow.copies import LARGEST_BODY, Copied, Frames, NoFrame, frame

LATIN = st.text(st.characters(max_codepoint=255), max_size=20)
HEADERS = st.lists(st.tuples(LATIN, LATIN), max_size=4)


@st.composite
def copies(draw: st.DrawFn) -> Copied:
    whole = draw(st.booleans())
    body = draw(st.binary(max_size=200)) if whole else b""
    return Copied(
        *(draw(LATIN) for _ in range(5)),
        draw(HEADERS),
        draw(LATIN),
        draw(LATIN),
        draw(st.integers(100, 599)),
        draw(LATIN),
        draw(HEADERS),
        len(body) if whole else draw(st.integers(0, 2**40)),
        draw(LATIN),
        whole,
        draw(st.floats(0, 2e9)),
        body,
    )


ONE = Copied(
    "page", "d", "GET", "/", "a.example", [("A", "b")], "http", "", 200, "OK", [("C", "d")], 2, "",
    True, 1.5, b"ok",
)  # fmt: skip


@given(st.lists(copies(), max_size=4), st.data())
def test_copies_come_out_as_they_went_in_however_their_bytes_are_cut(
    made: list[Copied], data: st.DataObject
) -> None:
    raw = b"".join(map(frame, made))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    frames, found = Frames(), []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        found += frames.feed(raw[start:end])
    assert found == made


@given(st.binary(min_size=12, max_size=200))
def test_bytes_of_strangers_are_no_copies(raw: bytes) -> None:
    with pytest.raises(NoFrame):
        Frames().feed(raw if not raw.startswith(b"BRS1") else b"X" + raw)


@given(st.data())
def test_one_damaged_byte_is_refused_or_changes_that_copy_alone(data: st.DataObject) -> None:
    raw = bytearray(frame(ONE))
    at = data.draw(st.integers(0, len(raw) - 1))
    old = raw[at]
    raw[at] ^= data.draw(st.integers(1, 255))
    if {old, raw[at]} <= set(b" \t\r\n"):
        return  # JSON means the same with either
    try:
        found = Frames().feed(bytes(raw))
    except NoFrame:
        return
    assert all(isinstance(copied, Copied) for copied in found)
    assert found != [ONE]


def damaged(**fields: object) -> bytes:
    """A copy of which some fields are others; None: they are left out."""
    raw = frame(ONE)
    mark, head, body = struct.unpack(">4sII", raw[:12])
    known = json.loads(raw[12 : 12 + head]) | fields
    text = json.dumps({k: v for k, v in known.items() if v is not None}).encode()
    return struct.pack(">4sII", mark, len(text), body) + text + raw[12 + head :]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"status": "200"}, "status of a copy"),
        ({"whole": 1}, "whole of a copy"),
        ({"length": True}, "length of a copy"),
        ({"headers": [["A"]]}, "no pair of texts"),
        ({"answer": [["A", 1]]}, "no pair of texts"),
        ({"answer": ["Ab"]}, "no pair of texts"),
        ({"route": None}, "other fields"),
        ({"more": 1}, "other fields"),
        ({"length": 3}, "another length"),
        ({"whole": False}, "another length"),
    ],
)
def test_a_copy_with_other_fields_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(NoFrame, match=says):
        Frames().feed(damaged(**fields))


def test_nothing_is_kept_for_a_frame_that_says_it_is_huge() -> None:
    for head, body in ((2**20 + 1, 0), (10, LARGEST_BODY + 1), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(NoFrame, match="another version"):
            Frames().feed(struct.pack(">4sII", b"BRS1", head, body))


def test_a_head_of_brackets_without_end_is_refused() -> None:
    text = b"[" * 100_000
    with pytest.raises(NoFrame):
        Frames().feed(struct.pack(">4sII", b"BRS1", len(text), 0) + text)
