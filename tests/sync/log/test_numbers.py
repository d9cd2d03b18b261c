"""Numbers in rows of the log: each is made by hand from what it stands for."""

from __future__ import annotations

import struct
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.log import tables as log
from bridge.sync.log.tables import Physical
from tests.sync.log.values import column, read

WHOLES = {
    "tinyint": (log.TINY, 1),
    "smallint": (log.SHORT, 2),
    "mediumint": (log.INT24, 3),
    "int": (log.LONG, 4),
    "bigint": (log.LONGLONG, 8),
}


@pytest.mark.parametrize("declared", sorted(WHOLES))
@pytest.mark.parametrize("written", sorted(WHOLES))
def test_whole_numbers_are_read(declared: str, written: str) -> None:
    """Of whatever width they were when they were written."""
    kind, size = WHOLES[written]
    half = 2 ** (8 * size - 1)
    for number in (0, 1, -1, half - 1, -half, half // 3, -half // 3):
        raw = number.to_bytes(size, "little", signed=True)
        assert read(Physical("c", kind, 0), column(declared), raw) == number
        unsigned = int.from_bytes(raw, "little")
        found = read(Physical("c", kind, 0, True), column(declared), raw)
        assert found == (unsigned if unsigned < 2**63 else str(unsigned))


def test_the_largest_number_that_is_one_is_known() -> None:
    physical = Physical("c", log.LONGLONG, 0, True)
    assert read(physical, column("bigint"), (2**63 - 1).to_bytes(8, "little")) == 2**63 - 1
    assert read(physical, column("bigint"), (2**63).to_bytes(8, "little")) == str(2**63)


@pytest.mark.parametrize(("raw", "number"), [(0, 0), (1, 1901), (126, 2026), (255, 2155)])
def test_years_are_read(raw: int, number: int) -> None:
    assert read(Physical("c", log.YEAR, 0), column("year"), bytes((raw,))) == number


@given(st.integers(1, 64), st.data())
def test_bits_are_read(bits: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 2**bits - 1))
    physical = Physical("c", log.BIT, (bits // 8) << 8 | bits % 8)
    found = read(physical, column("bit", length=bits), number.to_bytes((bits + 7) // 8, "big"))
    assert found == (number if number < 2**63 else str(number))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_of_double_precision_are_read(number: float) -> None:
    assert read(Physical("c", log.DOUBLE, 8), column("double"), struct.pack("<d", number)) == number


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_of_single_precision_have_the_digits_that_select_prints(number: float) -> None:
    """Six, unless the column says how many."""
    raw = struct.pack("<f", number)
    physical = Physical("c", log.FLOAT, 4)
    assert read(physical, column("float"), raw) == float(f"{number:.5e}")
    assert read(physical, column("float", scale=3), raw) == number


def decimal_bytes(number: Decimal, precision: int, scale: int) -> bytes:
    """As the server packs it."""
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    digits = f"{abs(int(number.scaleb(scale))):0{precision}}"
    before, after = digits[: precision - scale], digits[precision - scale :]
    head = len(before) % 9
    groups = [(before[:head], sizes[head])] if head else []
    groups += [(before[n : n + 9], 4) for n in range(head, len(before), 9)]
    groups += [(after[n : n + 9], sizes[len(after[n : n + 9])]) for n in range(0, len(after), 9)]
    raw = bytearray(b"".join(int(text).to_bytes(size, "big") for text, size in groups))
    raw[0] ^= 0x80
    return bytes(one ^ 0xFF for one in raw) if number < 0 else bytes(raw)


@given(st.data())
def test_decimals_are_read(data: st.DataObject) -> None:
    """With all digits of their scale, and without zeros in front."""
    scale = data.draw(st.integers(0, 30))
    precision = data.draw(st.integers(max(1, scale), 65))
    whole = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    digits = f"{abs(whole):0{scale + 1}}"
    text = ("-" if whole < 0 else "") + digits[: len(digits) - scale]
    text += f".{digits[-scale:]}" if scale else ""
    number = Decimal((int(whole < 0), tuple(map(int, str(abs(whole)))), -scale))
    with localcontext(Context(prec=80)):
        raw = decimal_bytes(number, precision, scale)
    physical = Physical("c", log.NEWDECIMAL, precision | scale << 8)
    assert read(physical, column("decimal", length=precision, scale=scale), raw) == text
