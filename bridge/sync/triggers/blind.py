"""What no trigger sees of a table, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.sync.types.column import Table

__all__ = ["unseen"]

_WRITES = ("CASCADE", "SET NULL", "SET DEFAULT")


def unseen(
    table: Table, strange: Sequence[str] = (), below: Sequence[tuple[str, bool]] = ()
) -> Iterator[str]:
    """One sentence for each thing. strange: unique indexes of SQLite over expressions. below: the
    tables of PostgreSQL whose rows are those of this one, and whether each is a partition."""
    if table.dialect == "mysql":
        for key in table.foreign:
            columns = ", ".join(key.columns)
            if key.deletes in _WRITES:
                yield (
                    f"ON DELETE {key.deletes} of the foreign key ({columns}) to {key.table}: let "
                    f"the site delete or change the rows itself before those of {key.table}, or "
                    f"run `bridgectl reconcile --deep --repair` after deletions"
                )
            if key.updates in _WRITES:
                yield (
                    f"ON UPDATE {key.updates} of the foreign key ({columns}) to {key.table}: run "
                    f"`bridgectl reconcile --deep --repair` after a key of {key.table} was changed"
                )
        if table.engine and table.engine.casefold() != "innodb":
            yield (
                f"{table.engine} keeps what a transaction wrote that is rolled back, and the note "
                "of it goes: run `bridgectl reconcile --deep --repair` now and then, or "
                "ALTER TABLE … ENGINE=InnoDB"
            )
    for index in strange:
        yield (
            f"REPLACE may delete a row because of the unique index {index}, which is over an "
            "expression: run `bridgectl reconcile --repair` after it"
        )
    if any(is_partition for _, is_partition in below):
        yield (
            "TRUNCATE, DETACH, ATTACH and DROP of a partition: run `bridgectl reconcile --deep "
            "--repair` after it"
        )
    for name, is_partition in below:
        if not is_partition:
            yield (
                f"what is written to the rows of {name}, which inherits from this table: run "
                "`bridgectl reconcile --deep --repair` now and then, or mirror a table "
                "without heirs"
            )
