"""Values of a column as they are in rows of the log, read with the bytes of others around them."""

from __future__ import annotations

from typing import Any

from bridge.sync.log.cells import cell
from bridge.sync.log.charsets import Decode
from bridge.sync.log.sizes import skip
from bridge.sync.log.tables import Physical
from bridge.sync.models import FieldRule
from bridge.sync.types.column import Column
from bridge.sync.types.rules import rule
from tests.sync.log.entities import CHARSETS

__all__ = ["column", "decoder", "read", "sized"]

OTHER = b"\xa5\x5a\xa5"
"""What stands before a value, and behind it."""


def read(physical: Physical, column: Column, raw: bytes, *, stored: str | None = None) -> Any:
    """The value that is all of these bytes, wherever they stand; and who does not want it finds the
    same end."""
    field = None if stored is None else FieldRule.model_validate({"text": {"stored": stored}})
    made = cell(physical, decoder(physical), column, rule(column, "mysql", field))
    value, end = made(OTHER + raw + OTHER, len(OTHER))
    assert end == len(OTHER) + len(raw)
    at = len(OTHER)
    for past in skip([physical]):
        at = past(OTHER + raw + OTHER, at)
    assert at == end
    return value


def decoder(physical: Physical) -> Decode | None:
    return CHARSETS.decoder(physical.collation)


def column(type_: str, **more: Any) -> Column:
    return Column("c", type_, more.pop("declared", type_), **more)


def sized(raw: bytes, size: int) -> bytes:
    """With its length in front, in so many bytes."""
    return len(raw).to_bytes(size, "little") + raw
