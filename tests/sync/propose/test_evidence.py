"""Which character set texts are really in is seen by their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.propose.evidence import ENOUGH, Evidence

LETTERS = st.text("abc äöüßéèñçøåœ€–日本語😀", min_size=1, max_size=30)
GERMAN = st.text("abcäöüß", min_size=1, max_size=30).map(lambda text: f"{text}n")
"""Whose umlauts stand before letters: no two bytes of latin1 that UTF-8 would have."""


def seen(values: Iterable[bytes], *, whole: bool = True) -> Evidence:
    evidence = Evidence()
    for value in values:
        evidence.add(value, whole=whole)
    return evidence


@given(st.lists(LETTERS, min_size=1))
def test_utf8_is_seen_where_anything_is_not_ascii(texts: list[str]) -> None:
    """Of ASCII alone nobody can tell."""
    found = seen(text.encode() for text in texts)
    assert found.is_utf8 == any(not text.isascii() for text in texts)
    assert (found.other, found.control, found.values) == (0, 0, len(texts))


@given(st.lists(GERMAN.filter(lambda text: not text.isascii()), min_size=1))
def test_latin1_is_not_taken_for_utf8(texts: list[str]) -> None:
    """One byte above 127 is no character of UTF-8."""
    found = seen(text.encode("latin-1") for text in texts)
    assert not found.is_utf8
    assert found.other == found.values == len(texts)
    assert found.is_latin1


@given(LETTERS.filter(lambda text: not text.isascii()), st.integers(1, 2))
def test_a_text_that_was_cut_off_is_utf8_all_the_same(text: str, missing: int) -> None:
    """VARCHAR(n) of latin1 cuts characters of UTF-8 in two."""
    found = seen([f"{text}日".encode()[:-missing]])
    assert (found.utf8, found.cut, found.other) == (1, 1, 0)


def test_a_character_that_stands_alone_and_is_cut_is_counted_as_neither() -> None:
    """In latin1 it may be the last letter of a name."""
    assert seen([b"Andr\xe9"]).other == 1
    assert seen(["é Andr".encode() + b"\xc3"]).cut == 1


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=5))
def test_a_few_bytes_are_never_certain_to_be_text(values: list[bytes]) -> None:
    """65.66.67.68 is ABCD."""
    found = seen(values)
    if sum(map(len, set(values))) + 2 * sum(b > 127 for v in set(values) for b in v) < ENOUGH:
        assert not found.is_text


@given(st.binary(min_size=1), st.integers(0, 8))
def test_bytes_that_no_text_has_are_no_text(raw: bytes, control: int) -> None:
    """However much text stands beside them."""
    found = seen([b"a text that is long enough to be sure", raw + bytes([control])])
    assert not found.is_text


@given(st.lists(LETTERS.filter(lambda text: not text.isascii()), min_size=1))
def test_what_was_encoded_twice_is_counted(texts: list[str]) -> None:
    """By a program that took UTF-8 for latin1 on its way into the database."""
    twice = [text.encode().decode("bridge-latin1").encode() for text in texts]
    assert seen(twice).twice == len(texts)


@given(st.lists(st.binary()))
def test_every_value_that_is_not_empty_is_counted_once(values: list[bytes]) -> None:
    """Whatever it is, and it can be shown."""
    found = seen(values)
    assert found.values == sum(map(bool, values))
    assert str(found)
