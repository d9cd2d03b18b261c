"""The name of a transaction in the database's own log, and which of two comes first. Pure.

Whoever reads the log has it, and so have those who only need to know how far the mirror has come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from bridge.errors import BridgeError

__all__ = ["Gtid"]

_MARIADB = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})")
_MYSQL = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):(?:1-)?([0-9]{1,20})")


@dataclass(frozen=True, slots=True)
class Gtid:
    """The name of a transaction. domain: of MariaDB, or the UUID of a MySQL server. server: the
    number of the one that wrote it first; 0 in MySQL. sequence: it grows by one with each."""

    domain: str
    server: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Of MariaDB's `0-1-42`, or MySQL's `UUID:42` or `UUID:1-42`; None for the empty text: the
        log has no transaction yet. Raises BridgeError for more than one domain, or holes."""
        text = text.replace("\n", "").strip()
        if not text:
            return None
        if found := _MARIADB.fullmatch(text):
            return cls(str(int(found[1])), int(found[2]), int(found[3]))
        if found := _MYSQL.fullmatch(text):
            return cls(found[1], 0, int(found[2]))
        raise BridgeError(
            f"the log has transactions of more than one domain or server ({text[:200]}): the "
            "mirror follows one. Let one server write, with one gtid_domain_id"
        )

    def __str__(self) -> str:
        if "-" in self.domain:
            return f"{self.domain}:{self.sequence}"
        return f"{self.domain}-{self.server}-{self.sequence}"

    def covers(self, other: Gtid) -> bool:
        """Whether the other one is this transaction, or came before it, in one history."""
        return self.domain == other.domain and self.sequence >= other.sequence
