"""Where in the log we are, as text, as a document and as a version."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.sync.gtid import Gtid
from bridge.sync.log.position import (
    LAST_ROW,
    MOST_EPOCHS,
    SEQUENCE_BITS,
    Position,
    position_of_version,
    version,
)

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
EPOCHS = st.integers(1, MOST_EPOCHS)
SEQUENCES = st.integers(0, 2**SEQUENCE_BITS - 1)
ROWS = st.integers(0, LAST_ROW)


@given(st.tuples(EPOCHS, SEQUENCES, ROWS), st.tuples(EPOCHS, SEQUENCES, ROWS))
def test_versions_are_in_the_order_of_changes(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    """And each says where it comes from."""
    assert (version(*one) < version(*other)) == (one < other)
    assert position_of_version(version(*one)) == one
    assert 2**57 <= version(*one) < 2**63


def test_the_borders_of_versions_are_known() -> None:
    assert version(1, 0, 0) == 2**57
    assert version(63, 2**36 - 1, 2**21 - 1) == 2**63 - 1
    assert LAST_ROW == 2**21 - 1
    assert position_of_version(2**57 - 1) == (0, 2**36 - 1, 2**21 - 1)


@pytest.mark.parametrize(
    ("epoch", "sequence", "row", "told"),
    [
        (0, 1, 1, "has had 0 histories, and a version has room for 63"),
        (64, 1, 1, "has had 64 histories"),
        (1, -1, 1, "transaction -1"),
        (1, 2**36, 1, r"has a higher number than a version has room for \(36 bits\)"),
        (1, 1, -1, "changes more than 2097151 rows"),
        (1, 1, 2**21, "changes more than 2097151 rows"),
    ],
)
def test_what_does_not_fit_a_version_is_refused(
    epoch: int, sequence: int, row: int, told: str
) -> None:
    with pytest.raises(BridgeError, match=told):
        version(epoch, sequence, row)


AT = Position(3, Gtid("0", 7, 42), "bin.000009", 100, 250, 11, 12, 13, "uid")


def test_a_position_is_kept_and_found_again() -> None:
    for one in (AT, replace(AT, gtid=None), replace(AT, gtid=Gtid(UUID, 0, 5))):
        assert Position.of(one.document()) == one
    assert AT.document()["gtid"] == "0-7-42"
    assert Position(1, None).document()["gtid"] == ""


@pytest.mark.parametrize("broken", [{"file": None}, {"gtid": 5}])
def test_what_another_version_kept_is_told(broken: dict[str, object]) -> None:
    document = {**AT.document(), **broken}
    if broken.get("file", "") is None:
        del document["file"]
    with pytest.raises(BridgeError, match="written by another version; run `bridgectl snapshot`"):
        Position.of(document)


def test_a_position_has_reached_what_is_not_after_it() -> None:
    """In its own domain, whichever server wrote it."""
    reached = [Gtid("0", 7, 42), Gtid("0", 9, 41), None]
    ahead = [Gtid("0", 7, 43), Gtid("1", 7, 1), Gtid(UUID, 0, 1)]
    assert [AT.reaches(one) for one in (*reached, *ahead)] == [True] * 3 + [False] * 3
    assert Position(1, None).reaches(None)
    assert not Position(1, None).reaches(Gtid("0", 1, 0))


def test_before_the_first_transaction_nothing_is_known_of_the_log() -> None:
    assert Position(5, None).document() == {
        "epoch": 5, "gtid": "", "file": "", "start": 0, "end": 0, "made": 0, "time": 0,
        "checksum": 0, "server": "",
    }  # fmt: skip


def test_a_position_says_where_it_is() -> None:
    assert (AT.sequence, str(AT)) == (42, "0-7-42")
    assert (Position(1, None).sequence, str(Position(1, None))) == (0, "the beginning")
