"""Text of the log is what SELECT gives, in every character set of the server."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UndecodableMessage
from bridge.queue.sql.database import connect
from bridge.sync.log.charsets import Charset, Charsets, Decoder, question
from bridge.sync.log.collations import charsets_of
from bridge.sync.log.sizes import Misread
from stack.mariadb import MariaDB

UNICODE = {
    "utf8mb3": "utf-8",
    "utf8mb4": "utf-8",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
}


def answered(charset: Charset, codec: str) -> str:
    """What a server would say whose character set is a codec of Python's."""
    codes = bytes.fromhex(question(charset).partition("x'")[2].partition("'")[0])
    return codes.decode(codec, "replace").replace("\ufffd", "?")


def decoder(name: str, longest: int, codec: str) -> Decoder:
    charset = Charset(name, longest)
    return Decoder(charset, answered(charset, codec))


SINGLE = decoder("cp1251", 1, "cp1251")
DOUBLE = decoder("gb2312", 2, "gb2312")
TRIPLE = decoder("ujis", 3, "euc_jp")


@given(st.text(st.characters(codec="cp1251")))
def test_text_of_one_byte_a_character_is_read(text: str) -> None:
    assert SINGLE(text.encode("cp1251")) == text


@given(st.text(st.sampled_from("aZ~\n0五日本語的東京")))
def test_text_of_two_bytes_a_character_is_read(text: str) -> None:
    raw = text.encode("gb2312", "ignore")
    assert DOUBLE(raw) == raw.decode("gb2312")


@given(st.text(st.sampled_from("aZ~\n0日本語ｱｶ丂侄")))
def test_text_of_three_bytes_a_character_is_read(text: str) -> None:
    assert TRIPLE(text.encode("euc_jp")) == text
    assert len("丂".encode("euc_jp")) == 3


def test_what_is_no_character_is_a_question_mark() -> None:
    """One for each byte that stands alone, as in SELECT."""
    assert SINGLE(b"\x98") == "?"
    assert DOUBLE(b"a\xb0\xa1\xff\xb0") == "a啊??"
    assert TRIPLE(b"\x8f\xb0") == "??"


def codes_of(charset: Charset) -> list[bytes]:
    raw = bytes.fromhex(question(charset).partition("x'")[2].partition("'")[0])
    *codes, end = raw.split(b"0\n")
    assert end == b""
    return codes


def test_all_codes_are_asked_for() -> None:
    """Of one byte, of two, and of three where there are some."""
    assert codes_of(Charset("cp1251", 1)) == [bytes((one,)) for one in range(256)]
    wide = codes_of(Charset("sjis", 2))
    assert len(wide) == len(set(wide)) == 256 + 128 * 255
    assert {b"\x80\x00", b"\xff\xff", b"\x81\x30"} <= {*wide}
    for name in ("ujis", "eucjpms"):
        widest = codes_of(Charset(name, 3))
        assert len(widest) == len(set(widest)) == len(wide) + 96 * 96
        assert {b"\x8f\xa0\xa0", b"\x8f\xff\xff"} <= {*widest}


def test_the_longest_code_is_read() -> None:
    """Where a shorter one begins alike."""
    charset = Charset("ujis", 3)
    known = {b"\x8f\xb0": "2", b"\x8f\xb0\xb1": "3", b"\xb1": "1"}
    answer = "".join(f"{known.get(code, '??')}0\n" for code in codes_of(charset))
    read = Decoder(charset, answer)
    assert read(b"\x8f\xb0\xb1\x8f\xb0\xb2\xb1") == "32?1"


def test_a_set_whose_letters_are_others_than_those_of_ascii_is_read_by_its_own() -> None:
    """Whether its bytes look like ASCII or not."""
    swedish = {0x5B: "Ä", 0x5C: "Ö"}
    answer = "".join(f"{swedish.get(one, chr(one) if one < 128 else '?')}0\n" for one in range(256))
    swe7 = Decoder(Charset("swe7", 1), answer)
    assert swe7(b"a[\\") == "aÄÖ"


@pytest.mark.parametrize("answer", ["", "a", "a0\n" * 255, "a0\n" * 256 + "b"])
def test_an_answer_that_is_none_is_an_error_that_says_what_to_do(answer: str) -> None:
    with pytest.raises(Misread, match=r"^is in the character set cp1251, .* convert it to utf8mb4"):
        Decoder(Charset("cp1251", 1), answer)


@pytest.mark.parametrize("charset", sorted(UNICODE))
def test_unicode_is_read_without_a_question(charset: str) -> None:
    def ask(question: str) -> str:
        raise AssertionError(question)

    text = "aß€日" + ("" if charset in ("utf8mb3", "ucs2") else "😀")
    read = Charsets({7: Charset(charset, 4)}, ask).decoder(7)
    assert read is not None
    assert read(text.encode(UNICODE[charset])) == text
    with pytest.raises(UndecodableMessage, match=f"its bytes are no (UTF-8|{charset}): "):
        read(b"\xff")


def test_halves_of_characters_are_no_ucs2() -> None:
    """Python would read two of them as one character."""
    read = Charsets({7: Charset("ucs2", 2)}, str).decoder(7)
    assert read is not None
    assert read("a\uffff".encode("utf-16-be")) == "a\uffff"
    with pytest.raises(UndecodableMessage, match="halves"):
        read("😀".encode("utf-16-be"))


def test_a_set_is_asked_for_once_and_bytes_never() -> None:
    asked = []
    charset = Charset("cp1251", 1)

    def ask(question: str) -> str:
        asked.append(question)
        return answered(charset, "cp1251")

    charsets = Charsets({14: charset, 51: charset}, ask)
    assert asked == []
    assert charsets.decoder(14) is charsets.decoder(51)
    assert charsets.decoder(63) is None
    assert asked == [question(charset)]


def test_a_collation_that_the_server_does_not_know_is_told() -> None:
    with pytest.raises(Misread, match="does not know, number 9"):
        Charsets({}, str).decoder(9)


# With the server.


@pytest.fixture(scope="module")
def engine(logged_mariadb: MariaDB) -> Iterator[sql.Engine]:
    made = connect(logged_mariadb.create_database("charsets"))
    yield made
    made.dispose()
    logged_mariadb.drop_database("charsets")


def test_every_character_set_of_the_server_is_read_as_select_gives_it(engine: sql.Engine) -> None:
    """Of any bytes; those of Unicode of any characters."""
    charsets = charsets_of(engine)
    chance = random.Random(7)
    read = 0
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT a.id, a.character_set_name "
            "FROM information_schema.collation_character_set_applicability a "
            "JOIN information_schema.character_sets s "
            "ON s.default_collate_name = a.full_collation_name"
        ).all()
        for collation, charset in rows:
            decode = charsets.decoder(collation)
            if decode is None:
                continue
            read += 1
            for raw in samples(charset, chance):
                value = f"CONVERT(x'{raw.hex()}' USING {charset})"
                given = connection.exec_driver_sql(
                    f"SELECT HEX(CONVERT({value} USING utf8mb4))"
                ).scalar_one()
                assert decode(raw) == bytes.fromhex(given).decode(), (charset, raw)
    assert read >= 39


def samples(charset: str, chance: random.Random) -> Iterator[bytes]:
    if charset in UNICODE:
        codes = [one for one in range(0x10000) if not 0xD800 <= one < 0xE000]
        if charset not in ("utf8mb3", "ucs2"):
            codes += range(0x10000, 0x110000, 61)
        yield "".join(map(chr, codes)).encode(UNICODE[charset])
        return
    yield bytes(range(256))
    for _ in range(40):
        ranges = ((0, 255), (0x80, 255), (0xA1, 0xFE))
        size = chance.randint(1, 60)
        # The end of an unfinished character is no character, and would be left out.
        yield bytes(chance.randint(*chance.choice(ranges)) for _ in range(size)) + b"00"
