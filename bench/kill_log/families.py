"""Edits of rows that refer to each other: `owners` are referred to by `things` and `links`,
`things` and `zones` by `parts`. What the server does to them by itself is not in the log."""

from __future__ import annotations

from bench.kill_log.editor import NOTHING, Editor, Edits, Marks

__all__ = ["FAMILIES"]

OWNERS, ZONES = 200, 12
AWAY = 100_000
"""Between the two numbers that an owner can have."""


def _family(editor: Editor) -> Marks:
    """An owner with all that hangs on it."""
    [number] = editor.own(OWNERS)
    code = f"c{number}-{editor.life()}"
    if editor.do("INSERT IGNORE INTO owners VALUES (%s, %s, %s)", number, code, editor.life()):
        parts = [
            (number * 10 + k, code, editor.chance.randrange(ZONES), editor.life()) for k in range(3)
        ]
        editor.many("INSERT IGNORE INTO zones {}", [(zone, "zone") for *_, zone, _ in parts])
        life = editor.life()
        editor.do(
            "INSERT INTO things VALUES (%s, %s, %s) "
            "ON DUPLICATE KEY UPDATE owner_code = VALUES(owner_code), n = VALUES(n)",
            *(number, code, life),
        )
        editor.many(
            "INSERT INTO parts (id, thing_code, zone_id, n) {} ON DUPLICATE KEY UPDATE "
            "thing_code = VALUES(thing_code), zone_id = VALUES(zone_id), n = VALUES(n)",
            parts,
        )
        links = [(number * 10 + k, number, editor.life()) for k in range(2)]
        editor.many(
            "INSERT INTO links {} ON DUPLICATE KEY UPDATE owner_id = VALUES(owner_id), "
            "n = VALUES(n)",
            links,
        )
    return NOTHING


def _count_families(editor: Editor) -> Marks:
    some = editor.chance.randrange(7)
    table = editor.chance.choice(("owners", "things", "parts", "links"))
    editor.do(f"UPDATE {table} SET n = n + 1 WHERE MOD(id, 7) = %s", some)
    return NOTHING


def _owner(editor: Editor) -> tuple[int, str] | None:
    """One that is there, locked: its number and code."""
    [number] = editor.own(OWNERS)
    found = editor.fetch(
        "SELECT id, code FROM owners WHERE id IN (%s, %s) FOR UPDATE", number, number + AWAY
    )
    return None if found is None else (int(found[0]), str(found[1]))


def _delete_owner(editor: Editor) -> Marks:
    """Its thing goes, the parts of that go, and its links are set to NULL."""
    if (found := _owner(editor)) is None or not editor.do(
        "DELETE FROM owners WHERE id = %s", found[0]
    ):
        return NOTHING
    number, code = found
    return [("thing", "owner_code", code), ("part", "", ""), ("link", "owner_id", str(number))]


def _replace_owner(editor: Editor) -> Marks:
    """A REPLACE deletes, with all that hangs on it."""
    if (found := _owner(editor)) is None:
        return NOTHING
    number, code = found
    editor.do(
        "REPLACE INTO owners VALUES (%s, %s, %s)", number, f"r{number}-{editor.life()}",
        editor.life(),
    )  # fmt: skip
    return [("thing", "owner_code", code), ("part", "", ""), ("link", "owner_id", str(number))]


def _recode_owner(editor: Editor) -> Marks:
    """The code of its thing follows, and that of the parts becomes NULL: two steps."""
    if (found := _owner(editor)) is None:
        return NOTHING
    number, code = found
    editor.do(
        "UPDATE owners SET code = %s, n = n + 1 WHERE id = %s", f"u{number}-{editor.life()}", number
    )
    return [("thing", "owner_code", code), ("part", "", "")]


def _renumber_owner(editor: Editor) -> Marks:
    """Its links are set to NULL; its key is another one."""
    if (found := _owner(editor)) is None:
        return NOTHING
    number, _ = found
    new = number - AWAY if number >= AWAY else number + AWAY
    editor.do("UPDATE owners SET id = %s, n = %s WHERE id = %s", new, editor.life(), number)
    return [("link", "owner_id", str(number))]


def _delete_thing(editor: Editor) -> Marks:
    if (found := _owner(editor)) is None:
        return NOTHING
    _, code = found
    if not editor.do("DELETE FROM things WHERE owner_code = %s", code):
        return NOTHING
    return [("part", "thing_code", code)]


def _delete_zone(editor: Editor) -> Marks:
    """Of a table that is not mirrored."""
    zone = editor.chance.randrange(ZONES)
    if not editor.do("DELETE FROM zones WHERE id = %s", zone):
        return NOTHING
    return [("part", "zone_id", str(zone))]


FAMILIES: Edits = {
    "family": (14, _family),
    "count families": (6, _count_families),
    "cascade: delete": (0.5, _delete_owner),
    "cascade: replace": (0.3, _replace_owner),
    "cascade: code": (0.5, _recode_owner),
    "cascade: number": (0.5, _renumber_owner),
    "cascade: thing": (0.3, _delete_thing),
    "cascade: zone": (0.3, _delete_zone),
}
