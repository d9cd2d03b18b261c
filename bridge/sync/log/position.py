"""Where in the database's log we are, and the versions of rows that follow from it. Pure.

A version is one whole number: the epoch, the sequence number of the transaction, and the number of
the row's change in it. Each time another history begins (RESET MASTER, a server restored from a
backup), its sequence numbers begin low again, so that the epoch is one higher: a load after it
wins over all that was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from bridge.errors import BridgeError
from bridge.sync.gtid import Gtid

__all__ = [
    "EPOCH_BITS",
    "LAST_ROW",
    "MOST_EPOCHS",
    "ROW_BITS",
    "SEQUENCE_BITS",
    "Gtid",
    "Position",
    "position_of_version",
    "version",
]

EPOCH_BITS = 6
SEQUENCE_BITS = 36
"""A thousand transactions a second for two years."""
ROW_BITS = 21
"""Two million changes of rows in one transaction."""
MOST_EPOCHS = 2**EPOCH_BITS - 1
LAST_ROW = 2**ROW_BITS - 1
"""The row of what was read when the transaction was over: it is newer than each of its changes,
and older than the next one's."""


def version(epoch: int, sequence: int, row: int) -> int:
    """The version of a change. Raises BridgeError for what does not fit."""
    if not 1 <= epoch <= MOST_EPOCHS:
        raise BridgeError(
            f"the log has had {epoch} histories, and a version has room for {MOST_EPOCHS}"
        )
    if not 0 <= sequence < 2**SEQUENCE_BITS:
        raise BridgeError(
            f"transaction {sequence} of the log has a higher number than a version has room for "
            f"({SEQUENCE_BITS} bits)"
        )
    if not 0 <= row <= LAST_ROW:
        raise BridgeError(
            f"transaction {sequence} of the log changes more than {LAST_ROW} rows, and a version "
            "has no room for more"
        )
    return ((epoch << SEQUENCE_BITS) | sequence) << ROW_BITS | row


def position_of_version(number: int) -> tuple[int, int, int]:
    """Epoch, sequence number and row of a version; epoch 0 is that of no log."""
    return (
        number >> SEQUENCE_BITS + ROW_BITS,
        (number >> ROW_BITS) & (2**SEQUENCE_BITS - 1),
        number & LAST_ROW,
    )


@dataclass(frozen=True, slots=True)
class Position:
    """A transaction up to whose end everything is applied, and by what it is known again.

    epoch: which history it is. gtid: None before the first one. file, start, end: where its bytes
    are in the server's log, `end` being where the next one begins; made: when that file was begun,
    in Unix seconds. time: of the transaction, in Unix seconds; checksum: of its last event.
    server: `@@server_uid` or `@@server_uuid`.
    """

    epoch: int
    gtid: Gtid | None
    file: str = ""
    start: int = 0
    end: int = 0
    made: int = 0
    time: int = 0
    checksum: int = 0
    server: str = ""

    @property
    def sequence(self) -> int:
        """0 before the first transaction."""
        return 0 if self.gtid is None else self.gtid.sequence

    def reaches(self, gtid: Gtid | None) -> bool:
        """Whether this transaction is applied."""
        return gtid is None or (self.gtid is not None and self.gtid.covers(gtid))

    def document(self) -> dict[str, Any]:
        """As it is kept."""
        return {**asdict(self), "gtid": "" if self.gtid is None else str(self.gtid)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """As it was kept. Raises BridgeError for another's."""
        try:
            found = {name: document[name] for name in cls.__dataclass_fields__}
            return cls(**{**found, "gtid": Gtid.parse(found["gtid"])})
        except (KeyError, AttributeError, TypeError) as error:
            raise BridgeError(
                f"what MongoDB keeps of the log's position cannot be read ({error!r}): it was "
                "written by another version; run `bridgectl snapshot`"
            ) from None

    def __str__(self) -> str:
        return str(self.gtid) if self.gtid is not None else "the beginning"
