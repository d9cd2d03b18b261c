"""What the editors do: rows of `accounts`, whose key is a text that the server takes for the same
in any case, and events over the queue."""

from __future__ import annotations

import json

from bench.kill_log.definitions import DEFINITIONS
from bench.kill_log.editor import NOTHING, Editor, Edits, Marks
from bench.kill_log.families import FAMILIES

__all__ = ["EDITS"]

ACCOUNTS, INVOICES = 400, 100


def _name(editor: Editor, number: int) -> str:
    """Of an account; the server takes names for the same that differ in case only."""
    text = f"Account-{number}"
    return editor.chance.choice((text, text.upper(), text.lower()))


def _accounts(editor: Editor) -> Marks:
    rows = [
        (_name(editor, number), number, f"Title {editor.chance.random()}", editor.life())
        for number in set(editor.own(ACCOUNTS, 5))
    ]
    editor.many(
        "INSERT INTO accounts (name, number, title, n) {} "
        "ON DUPLICATE KEY UPDATE title = VALUES(title), n = n + 1",
        rows,
    )
    return NOTHING


def _update_accounts(editor: Editor) -> Marks:
    some = editor.chance.randrange(13)
    editor.do(
        "UPDATE accounts SET n = n + 1, title = CONCAT('Tïtle ', n) WHERE MOD(number, 13) = %s",
        some,
    )
    return NOTHING


def _replace_accounts(editor: Editor) -> Marks:
    rows = [
        (_name(editor, number), number, f"Replaced {number}", editor.life())
        for number in set(editor.own(ACCOUNTS, 3))
    ]
    editor.many("REPLACE INTO accounts (name, number, title, n) {}", rows)
    return NOTHING


def _rename_account(editor: Editor) -> Marks:
    old, new = editor.own(ACCOUNTS, 2)
    if editor.chance.random() < 0.3:
        new = old
    editor.do(
        "UPDATE accounts SET name = %s, number = %s, n = %s WHERE number = %s",
        *(_name(editor, new), new, editor.life(), old),
    )
    return NOTHING


def _delete_accounts(editor: Editor) -> Marks:
    some = editor.own(ACCOUNTS, 4)
    editor.do("DELETE FROM accounts WHERE number IN (%s, %s, %s, %s)", *some)
    return NOTHING


def _savepoints(editor: Editor) -> Marks:
    _update_accounts(editor)
    editor.do("SAVEPOINT one")
    _delete_accounts(editor)
    _replace_accounts(editor)
    editor.do("SAVEPOINT two")
    _rename_account(editor)
    editor.do("ROLLBACK TO one" if editor.chance.random() < 0.7 else "ROLLBACK TO two")
    _accounts(editor)
    return NOTHING


def _rolled_back(editor: Editor) -> Marks:
    _update_accounts(editor)
    _delete_accounts(editor)
    editor.do("ROLLBACK")
    return NOTHING


def _compared(editor: Editor) -> Marks:
    """An event over the queue, of an entity that the log owns."""
    [number] = editor.own(ACCOUNTS)
    name = f"Account-{number}"
    data = json.dumps({"name": name, "number": number, "title": "of the queue", "n": 1})
    editor.do("UPDATE accounts SET n = n + 1 WHERE number = %s", number)
    _outbox(editor, "account", name, data, 1)
    return NOTHING


def _invoice(editor: Editor) -> Marks:
    """An edit of an entity whose source is the outbox."""
    [number] = editor.own(INVOICES)
    editor.do(
        "INSERT INTO invoices VALUES (%s, %s, 1) ON DUPLICATE KEY UPDATE n = n + 1, ver = ver + 1",
        *(number, editor.life()),
    )
    found = editor.fetch("SELECT n, ver FROM invoices WHERE id = %s", number)
    assert found is not None
    n, version = found
    _outbox(editor, "invoice", str(number), json.dumps({"id": number, "n": n}), version)
    return NOTHING


def _outbox(editor: Editor, entity: str, key: str, data: str, version: int) -> None:
    editor.do(
        "INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at) "
        "VALUES (%s, %s, %s, %s, %s, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS INT))",
        *(entity, key, f"{entity}.changed", data, version),
    )


EDITS: Edits = {
    "insert or update": (12, _accounts),
    "update many": (8, _update_accounts),
    "replace": (8, _replace_accounts),
    "change a key": (8, _rename_account),
    "delete": (5, _delete_accounts),
    "savepoints": (5, _savepoints),
    "roll back": (3, _rolled_back),
    "compare": (4, _compared),
    "outbox": (8, _invoice),
    **FAMILIES,
    **DEFINITIONS,
}
