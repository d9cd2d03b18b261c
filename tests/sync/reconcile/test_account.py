"""What keys do not explain is never equal, and what visitors edit is no riddle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from bridge.sync.checksums import BUCKETS, Listed, Sums, bucket_of, listed
from bridge.sync.doubts import KeyState, Pair
from bridge.sync.reconcile.account import Account
from bridge.sync.reconcile.confirm import Confirmation
from bridge.sync.reconcile.mirrored import Mirrored
from bridge.sync.sql import rows as sql_rows
from bridge.sync.sql import sums as sql_sums
from tests.sync.reconcile.site import Site

Rows = dict[str, int]
KEYS = st.text("abc", min_size=1, max_size=3)
ROWS = st.dictionaries(KEYS, st.integers(0, 5), max_size=12)


def sums_of(rows: Rows) -> Sums:
    sums = Sums()
    for key, version in rows.items():
        sums.add(key, version)
    return sums


def account_of(rows: Rows, documents: Rows, seen: Rows | None = None) -> Account:
    """Sums of these, and lists of everything; seen: the rows that are listed, where it is not
    all of them."""
    account = Account(sums_of(rows), sums_of(documents))
    one = [listed(*row) for row in (rows if seen is None else seen).items()]
    other = [listed(*document) for document in documents.items()]
    some = set(account.differing)
    account.enter(
        some,
        [row for row in one if row.bucket in some],
        [document for document in other if document.bucket in some],
    )
    return account


@given(rows=ROWS, documents=ROWS)
def test_what_differs_is_explained_by_its_keys(rows: Rows, documents: Rows) -> None:
    account = account_of(rows, documents)

    assert account.open() == set()
    assert set(account.entries) == {
        key for key in {**rows, **documents} if rows.get(key) != documents.get(key)
    }
    assert account.explained(()) == len(rows) - len(documents)


@given(rows=ROWS, documents=ROWS, data=st.data())
def test_a_row_that_is_counted_and_not_listed_leaves_its_bucket_open(
    rows: Rows, documents: Rows, data: st.DataObject
) -> None:
    hidden = data.draw(KEYS.filter(lambda key: key not in documents and key not in rows))

    account = account_of({**rows, hidden: 1}, documents, rows)

    assert account.open() == {bucket_of(hidden)}
    assert account.explained(()) != len(rows) + 1 - len(documents)


def test_two_rows_with_one_key_are_in_doubt_whatever_their_versions() -> None:
    rows = Sums()
    rows.add("a", 1)
    rows.add("a", 1)
    account = Account(rows, sums_of({"a": 1}))

    doubtful = account.enter([bucket_of("a")], [listed("a", 1)] * 2, [listed("a", 1)])

    assert doubtful == ["a"]
    assert account.entries["a"].more == 1


def confirmed(
    accounts: list[Account], pairs: dict[str, Pair], *, lists: Sequence[Rows] = ()
) -> Confirmation:
    """What becomes of the first account when the others are what is found later. The keys of
    `pairs` were looked at. lists: the rows that are listed later, where nothing is counted."""
    later, listings = iter(accounts[1:]), iter(lists)

    def enter(account: Account, buckets: Sequence[int]) -> bool:
        if lists:
            account.enter(buckets, [listed(*row) for row in next(listings).items()], [])
        return True

    confirmation = Confirmation(lambda: next(later), enter, pairs)
    confirmation.run(accounts[0])
    return confirmation


def test_a_bucket_that_stands_still_and_contradicts_itself_is_told() -> None:
    accounts = [account_of({"a": 1, "b": 1}, {"b": 1}, {"b": 1}) for _ in range(2)]

    [told] = confirmed(accounts, {}).differences

    assert told.kind == "unexplained"
    assert f"{bucket_of('a'):03x}" in told.detail


def test_a_bucket_that_is_equal_a_moment_later_is_no_riddle() -> None:
    before = account_of({"a": 1, "b": 1}, {"b": 1}, {"b": 1})
    after = account_of({"a": 1, "b": 1}, {"a": 1, "b": 1})

    assert confirmed([before, after], {}).differences == []


def test_a_bucket_in_which_visitors_edit_all_the_time_is_no_riddle() -> None:
    bucket = bucket_of("a")

    def moving(at: int) -> Account:
        # The sums are of the moment before the lists.
        account = Account(sums_of({"a": at + 1}), sums_of({"a": at}))
        account.enter([bucket], [listed("a", at + 2)], [listed("a", at + 2)])
        return account

    assert confirmed([moving(at) for at in range(0, 60, 10)], {}).differences == []


def test_so_many_rows_too_few_every_time_are_told_although_others_move() -> None:
    bucket = bucket_of("a")

    def moving(at: int) -> Account:
        rows = sums_of({"a": at + 1})
        rows.add_bucket(bucket, 1, 77)  # what no list shows
        account = Account(rows, sums_of({"a": at}))
        account.enter([bucket], [listed("a", at + 2)], [listed("a", at + 2)])
        return account

    [told] = confirmed([moving(at) for at in range(0, 60, 10)], {}).differences

    assert told.kind == "unexplained"


def test_a_row_that_is_listed_twice_and_not_found_between_is_told() -> None:
    accounts = [account_of({"a": 1}, {})]

    [told] = confirmed(accounts, {"a": Pair(None, None)}, lists=[{"a": 1}]).differences

    assert (told.kind, told.key, told.sql) == ("unexplained", "a", 1)


def test_a_row_that_comes_and_goes_all_the_time_is_told_in_the_end() -> None:
    lists = [{"a": version} for version in range(2, 20)]

    [told] = confirmed([account_of({"a": 1}, {})], {"a": Pair(None, None)}, lists=lists).differences

    assert (told.kind, told.key) == ("unexplained", "a")


def test_a_row_that_was_deleted_between_is_none() -> None:
    accounts = [account_of({"a": 1}, {})]

    assert confirmed(accounts, {"a": Pair(None, None)}, lists=[{}]).differences == []


def test_a_row_that_is_found_is_none() -> None:
    pair = Pair(KeyState(1), KeyState(1))

    assert confirmed([account_of({"a": 1}, {})], {"a": pair}).differences == []


def test_a_row_that_cannot_be_looked_up_is_told_at_once() -> None:
    pair = Pair(None, None, unlookable="it is no whole number")

    [told] = confirmed([account_of({"a": 1}, {})], {"a": pair}).differences

    assert (told.kind, told.key, told.detail) == ("unlookable", "a", "it is no whole number")


def test_a_key_that_the_database_counts_under_another_text_is_told() -> None:
    account = Account(sums_of({"x": 1}), sums_of({"a": 1}))
    row = Listed("a", 1, bucket_of("x"), listed("x", 1).sum)
    account.enter(range(BUCKETS), [row], [listed("a", 1)])

    [told] = confirmed([account], {}).differences

    assert (told.kind, told.key) == ("unexplained", "a")


# With real servers: whatever one part of the comparison is blind for, another one sees.


@pytest.fixture(params=["sqlite", "mariadb"])
def site(
    request: pytest.FixtureRequest, clean_mongodb: Database[dict[str, Any]], tmp_path: Path
) -> Iterator[Site]:
    """People, the same on both sides."""
    maria = request.param == "mariadb"
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    if maria:
        url = request.getfixturevalue("mariadb_url")
    site = Site(url, clean_mongodb, tmp_path)
    site.rows("people", [{"id": n, "title": f"Person {n}", "ver": n} for n in range(20)])
    site.mirror_all("person")
    yield site
    site.engine.dispose()


def test_a_row_that_asking_by_key_does_not_find_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.database.people.delete_one({"_id": "7"})
    batches = sql_rows.Lookup.batches

    def blind(self: Any, connection: Any, select: Any, key_of: Any) -> Any:
        for found in batches(self, connection, select, key_of):
            yield [row for row in found if key_of(row)[0] != 7]

    monkeypatch.setattr(sql_rows.Lookup, "batches", blind)

    [told] = site.reconcile("person").differences

    assert (told.kind, told.key, told.sql) == ("unexplained", "7", 7)


def test_a_document_that_the_lists_do_not_show_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.database.people.insert_one({"_id": "77", "_v": 1})
    keys = Mirrored.keys

    def blind(self: Mirrored, *asked: Any) -> Iterator[Listed]:
        return (one for one in keys(self, *asked) if one.key != "77")

    monkeypatch.setattr(Mirrored, "keys", blind)

    result = site.reconcile("person")

    assert not result.equal
    assert not result.adds_up
    assert [one.kind for one in result.differences] == ["unexplained"]


@pytest.mark.parametrize("site", ["mariadb"], indirect=True)
def test_a_database_that_writes_keys_in_another_way_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = sql_sums.key_in_sql
    monkeypatch.setattr(
        sql_sums,
        "key_in_sql",
        lambda *asked: sql_sums.sql.func.concat("0", written(*asked)),
    )

    result = site.reconcile("person")

    assert {(one.kind, one.key) for one in result.differences} == {
        ("unexplained", str(n)) for n in range(20)
    }
