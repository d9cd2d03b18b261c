"""Edits of whole tables: their definitions, all of their rows at once, and a table with a column of
nearly every type."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

from bench.kill_log.editor import NOTHING, Editor, Edits, Marks

__all__ = ["DEFINITIONS"]

MIXED, DRAFTS = 200, 40
LARGE_EVERY = 20.0
"""Seconds between two large transactions, at least."""


def _define(editor: Editor, statement: str, entity: str) -> Marks:
    editor.do(statement)
    return [(entity, "", "")]


def _add_column(editor: Editor) -> Marks:
    """A column comes, with a default, and goes again with the next one."""
    editor.added += 1
    name = f"added{editor.number}"
    if editor.added % 2:
        kind = editor.chance.choice(("INT DEFAULT 7", "VARCHAR(9) DEFAULT 'seven'"))
        return _define(editor, f"ALTER TABLE mixed ADD COLUMN IF NOT EXISTS {name} {kind}", "mixed")
    return _define(editor, f"ALTER TABLE mixed DROP COLUMN IF EXISTS {name}", "mixed")


def _modify_column(editor: Editor) -> Marks:
    change = editor.chance.choice(
        (
            "MODIFY amount INT", "MODIFY amount BIGINT", "MODIFY amount VARCHAR(40)",
            "MODIFY price DECIMAL(12,3)", "MODIFY price DECIMAL(14,5)",
            "MODIFY moment DATETIME(6)", "MODIFY moment DATETIME(3)",
            "MODIFY note TEXT", "MODIFY note VARCHAR(300)",
            "MODIFY latin VARCHAR(20) CHARACTER SET latin1",
            "MODIFY latin VARCHAR(20) CHARACTER SET utf8mb4",
        )
    )  # fmt: skip
    return _define(editor, f"ALTER TABLE mixed {change}", "mixed")


def _large(editor: Editor) -> Marks:
    """The next step of the first editor: many rows in one transaction, or a whole table."""
    if editor.number or monotonic() < editor.rests_until:
        return _count_bulk(editor)
    editor.rests_until = monotonic() + LARGE_EVERY
    editor.turn += 1
    rows = f"SELECT seq, CONCAT('label ', seq), %s FROM seq_1_to_{editor.huge}"
    insert = f"INSERT INTO bulk {rows} ON DUPLICATE KEY UPDATE n = n + 1"
    step = editor.turn % 6
    if step in (1, 4):
        editor.do(insert, editor.life())
    elif step == 2:
        editor.do("UPDATE bulk SET n = n + 1, label = CONCAT('again ', id)")
    elif step == 3:
        editor.do("DELETE FROM bulk")
    elif step == 5:
        return _define(editor, "TRUNCATE TABLE bulk", "bulk")
    else:
        editor.do(f"INSERT IGNORE INTO bulk {rows} LIMIT 300", editor.life())
    return NOTHING


def _count_bulk(editor: Editor) -> Marks:
    first = editor.chance.randrange(300)
    editor.do("UPDATE bulk SET n = n + 1 WHERE id BETWEEN %s AND %s", first, first + 20)
    return NOTHING


def _truncate(editor: Editor) -> Marks:
    """A table that other editors insert into meanwhile."""
    return _define(editor, "TRUNCATE TABLE drafts", "draft")


def _rename_table(editor: Editor) -> Marks:
    """The table is away for a moment."""
    if editor.number:
        return NOTHING
    editor.do("RENAME TABLE bulk TO bulk_away")
    # Whatever happens now, the next turn brings it back.
    editor.do("RENAME TABLE bulk_away TO bulk")
    return [("bulk", "", "")]


def _bring_back(editor: Editor) -> Marks:
    if editor.number:
        return NOTHING
    return _define(editor, "RENAME TABLE IF EXISTS bulk_away TO bulk", "bulk")


def _drafts(editor: Editor) -> Marks:
    rows = [(number, f"draft {editor.chance.random()}") for number in set(editor.own(DRAFTS, 3))]
    editor.many("INSERT INTO drafts {} ON DUPLICATE KEY UPDATE text = VALUES(text)", rows)
    return NOTHING


def _undone(editor: Editor) -> Marks:
    """A temporary table takes part, so that the log has the rows that were undone."""
    editor.do("DROP TEMPORARY TABLE IF EXISTS scratch")
    changed = editor.do("UPDATE drafts SET text = CONCAT(text, '!') WHERE MOD(id, 3) = 0")
    editor.do("CREATE TEMPORARY TABLE scratch (id INT)")
    editor.do("ROLLBACK")
    return [("draft", "", "")] if changed else NOTHING


def _partly_undone(editor: Editor) -> Marks:
    """A table without transactions takes part, with the same effect."""
    _drafts(editor)
    editor.do("SAVEPOINT so_far")
    changed = editor.do("UPDATE drafts SET text = CONCAT(text, '?') WHERE MOD(id, 3) = 1")
    editor.do("INSERT INTO audit (text) VALUES ('undone')")
    editor.do("ROLLBACK TO so_far")
    return [("draft", "", "")] if changed else NOTHING


def _mixed(editor: Editor) -> Marks:
    editor.many(
        "REPLACE INTO mixed (a, b, n, note, price, moment, stamp, day, clock, year, kind, flags, "
        "bits, raw, blob_, data, wide, narrow, amount, latin) {}",
        [_values(editor, number) for number in set(editor.own(MIXED, 4))],
    )
    return NOTHING


def _values(editor: Editor, number: int) -> tuple[Any, ...]:
    chance = editor.chance
    key = (f"k/{number % 5}", (2**63 + number) if number % 2 else number)
    stamp = f"20{chance.randrange(10, 37)}-0{chance.randrange(1, 10)}-1{chance.randrange(10)}"
    maybe = (
        f"nöte {chance.random()} ✓",
        f"{chance.randrange(-(10**6), 10**6)}.{chance.randrange(100)}",
        f"{stamp} 0{chance.randrange(10)}:59:59.{chance.randrange(10**6):06}",
        f"{stamp} 12:00:00.{chance.randrange(1000):03}",
        stamp,
        f"-{chance.randrange(1, 800)}:10:01.25",
        chance.randrange(1901, 2155),
        chance.choice(("one", "zwö", "three")),
        chance.choice(("r,x", "w", "")),
        chance.randrange(2**13),
        chance.randbytes(chance.randrange(41)),
        chance.randbytes(chance.randrange(300)),
        json.dumps({"a": chance.randrange(9), "ä": [1, None]}),
        chance.uniform(-1e9, 1e9),
        chance.uniform(-1, 1),
        chance.randrange(-(2**31), 2**31),
        chance.choice(("café", "Zürich", "plain")),
    )
    return (*key, editor.life(), *(one if chance.random() < 0.9 else None for one in maybe))


def _count_mixed(editor: Editor) -> Marks:
    editor.do("UPDATE mixed SET n = n + 1 WHERE MOD(b, 9) = %s", editor.chance.randrange(9))
    return NOTHING


def _delete_mixed(editor: Editor) -> Marks:
    [number] = editor.own(MIXED)
    key = _values(editor, number)[:2]
    editor.do("DELETE FROM mixed WHERE a = %s AND b = %s", *key)
    return NOTHING


DEFINITIONS: Edits = {
    "add or drop a column": (0.15, _add_column),
    "modify a column": (0.15, _modify_column),
    "truncate": (0.15, _truncate),
    "rename a table": (0.15, _rename_table),
    "bring a table back": (0.3, _bring_back),
    "large": (0.2, _large),
    "count bulk": (3, _count_bulk),
    "drafts": (4, _drafts),
    "undone": (0.3, _undone),
    "partly undone": (0.3, _partly_undone),
    "types": (8, _mixed),
    "count types": (4, _count_mixed),
    "delete types": (2, _delete_mixed),
}
