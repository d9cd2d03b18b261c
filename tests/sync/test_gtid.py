"""The names of transactions, as servers write them and as they are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.sync.gtid import Gtid

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
GTIDS = st.one_of(
    st.builds(
        Gtid,
        st.integers(0, 2**32 - 1).map(str),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**64 - 1),
    ),
    st.builds(Gtid, st.just(UUID), st.just(0), st.integers(1, 2**63)),
)


@given(GTIDS)
def test_a_gtid_is_read_as_it_is_written(gtid: Gtid) -> None:
    assert Gtid.parse(str(gtid)) == gtid
    assert Gtid.parse(f" {gtid}\n") == gtid


def test_the_forms_of_both_servers_are_read() -> None:
    """MySQL's names all transactions up to one."""
    assert Gtid.parse("0-7-42") == Gtid("0", 7, 42)
    assert Gtid.parse("010-07-042") == Gtid("10", 7, 42)
    assert Gtid.parse(f"{UUID}:1-42") == Gtid(UUID, 0, 42) == Gtid.parse(f"{UUID}:42")
    assert str(Gtid(UUID, 0, 42)) == f"{UUID}:42"
    assert Gtid.parse("") is None
    assert Gtid.parse("\n") is None


@pytest.mark.parametrize(
    "text",
    ["0-1-2,1-1-3", f"{UUID}:1-3:5-9", f"{UUID}:2-9", f"{UUID}:1-3,\n{UUID}:4", "0-1", "a-1-2"],
)
def test_more_than_one_domain_or_a_hole_is_refused(text: str) -> None:
    with pytest.raises(BridgeError, match="Let one server write, with one gtid_domain_id"):
        Gtid.parse(text)


def test_a_transaction_covers_what_is_not_after_it() -> None:
    """In its own domain, whichever server wrote it."""
    covered = [Gtid("0", 7, 42), Gtid("0", 9, 41)]
    ahead = [Gtid("0", 7, 43), Gtid("1", 7, 1), Gtid(UUID, 0, 1)]
    found = [Gtid("0", 7, 42).covers(one) for one in (*covered, *ahead)]
    assert found == [True, True, False, False, False]
