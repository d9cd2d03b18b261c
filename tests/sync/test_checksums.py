"""Sums of keys and versions: the same from every side, and different for every difference."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.checksums import (
    BUCKETS,
    NO_VERSION,
    Sums,
    add_all,
    alive,
    bucket_of,
    is_dead,
    is_text,
    listed,
    of_cursor,
    sum_of,
    version_in,
)

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
ROWS = st.dictionaries(KEYS, st.integers(0, 2**63 - 1), max_size=30)


def sums_of(rows: dict[str, int]) -> Sums:
    sums = Sums()
    for key, version in rows.items():
        sums.add(key, version)
    return sums


def test_the_sums_are_those_of_md5() -> None:
    # printf vim | md5sum; printf 'vim\n7' | md5sum
    assert bucket_of("vim") == 0xF89
    assert sum_of("vim", 7) == 0x5D4922BC9063


@given(rows=ROWS, data=st.data())
def test_every_single_difference_shows(rows: dict[str, int], data: st.DataObject) -> None:
    key = data.draw(KEYS)
    other = dict(rows)
    if key in other and data.draw(st.booleans()):
        del other[key]
    else:
        version = data.draw(st.integers(0, 2**63 - 1).filter(lambda v: v != rows.get(key)))
        other[key] = version

    assert sums_of(rows).differing(sums_of(other)) == [bucket_of(key)]


@given(rows=ROWS)
def test_the_order_of_the_rows_does_not_matter(rows: dict[str, int]) -> None:
    other = dict(reversed(rows.items()))
    assert sums_of(rows).differing(sums_of(other)) == []


def test_two_rows_that_are_one_version_behind_cancel_out_with_crcs_and_not_here() -> None:
    def crcs(rows: dict[str, int]) -> int:
        """The sum that would be simpler, and does not work."""
        found = 0
        for key, version in rows.items():
            found ^= zlib.crc32(f"{key}\n{version}".encode())
        return found

    in_sql = {"aaa": 5, "bbb": 5}
    in_mongodb = {"aaa": 4, "bbb": 4}

    assert crcs(in_sql) == crcs(in_mongodb)
    assert sum(map(sum_of, *zip(*in_sql.items(), strict=True))) != sum(
        map(sum_of, *zip(*in_mongodb.items(), strict=True))
    )
    assert sums_of(in_sql).differing(sums_of(in_mongodb))


def test_documents_without_a_usable_version_are_below_every_version() -> None:
    for wrong in ({}, {"_v": None}, {"_v": "7"}, {"_v": True}, {"_v": 1.5}):
        assert version_in(wrong) == NO_VERSION
    assert version_in({"_v": 7.0}) == 7


def test_documents_with_other_ids_than_text_are_set_apart() -> None:
    foreign: list[Any] = []
    found = list(of_cursor([{"_id": 1, "_v": 1}, {"_id": "a", "_v": 2}], 10, foreign.append))
    assert found == [[("a", 2)]]
    assert foreign == [1]


def test_the_first_and_the_last_bucket_are_compared_like_the_others() -> None:
    for bucket in (0, 1, BUCKETS - 1):
        for count, total in ((1, 0), (0, 1), (1, 1)):
            sums = Sums()
            sums.add_bucket(bucket, count, total)
            assert sums.differing(Sums()) == Sums().differing(sums) == [bucket]
            assert sums.rows == count
            sums.add_bucket(bucket, count, total)
            assert (sums.counts[bucket], sums.sums[bucket]) == (2 * count, 2 * total)


def test_keys_that_are_no_utf_8_have_a_bucket_and_a_sum_too() -> None:
    assert bucket_of("\udcff") == bucket_of(b"\xff".decode("utf-8", "surrogateescape"))
    assert sum_of("\udcff", 1) != sum_of("\udcfe", 1)


def test_a_row_is_listed_as_it_is_summed_up() -> None:
    found = listed("vim", 7, "odd")
    assert (found.key, found.version, found.wrong) == ("vim", 7, "odd")
    assert (found.bucket, found.sum) == (bucket_of("vim"), sum_of("vim", 7))
    assert listed("vim", 7).wrong == ""


@pytest.mark.parametrize(
    ("deleted", "dead"),
    [
        (True, True),
        ([1, True], True),
        ([], False),
        ([1], False),
        (False, False),
        (None, False),
        (1, False),
        ("true", False),
        ([[True]], False),
    ],
)
def test_what_is_dead_is_what_mongodb_does_not_find(deleted: Any, dead: bool) -> None:
    assert is_dead({"_del": deleted}) is dead
    assert not is_dead({})
    assert alive() == {"_del": {"$ne": True}}


@pytest.mark.parametrize(
    ("id", "text"),
    [("a", True), ("", True), ("é", True), ("\ud800", False), (1, False), (b"a", False)],
)
def test_a_key_is_a_text_of_utf_8(id: Any, text: bool) -> None:
    assert is_text(id) is text


@pytest.mark.parametrize(
    ("version", "read"), [(7, 7), (0, 0), (7.0, 7), (2**63 - 1, 2**63 - 1), (False, -1), ([7], -1)]
)
def test_a_version_is_a_whole_number(version: Any, read: int) -> None:
    assert version_in({"_v": version}) == read


@given(rows=ROWS, size=st.integers(1, 8))
def test_all_rows_of_a_cursor_come_in_batches_of_a_size(rows: dict[str, int], size: int) -> None:
    documents = [{"_id": key, "_v": version} for key, version in rows.items()]
    batches = list(of_cursor(documents, size, pytest.fail))
    assert [row for batch in batches for row in batch] == list(rows.items())
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches) == -(-len(rows) // size)
    sums, told = Sums(), list[int]()
    add_all(sums, batches, told.append)
    assert told == [len(batch) for batch in batches]
    assert sums.differing(sums_of(rows)) == []


def test_nobody_need_be_told_of_progress() -> None:
    sums = Sums()
    add_all(sums, [[("a", 1)], [("b", 2), ("c", 3)]])
    assert sums.rows == 3
