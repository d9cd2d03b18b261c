"""What the rows of a table, and its definition, say about how it will mirror. Pure.

Adds to a draft what follows from the data, and notes for a person to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from bridge.sync.propose.draft import Draft, Note
from bridge.sync.propose.evidence import Evidence
from bridge.sync.propose.look import TableSample
from bridge.sync.types.column import Column
from bridge.sync.types.rules import Unknown, rule

__all__ = ["advised", "charset_of", "timestamps"]

_TRANSACTIONAL = frozenset({"", "innodb", "rocksdb", "tokudb", "ndbcluster", "ndb"})
_SECRET = re.compile(
    r"passw(?:or)?d|passphrase|(?:^|_)(?:pass|pwd|secret|token|salt|otp|pin|api_?key|auth_?key"
    r"|private_?key|session_?(?:id|key)|sid)(?:_|$)",
    re.IGNORECASE,
)
_CHURN = re.compile(
    r"cache|sessions?(?:_|$)|(?:^|_)(?:sess|jobs?|tmp|temp|captcha|locks?|throttle|online)(?:_|$)"
    r"|search_?(?:index|word|match)",
    re.IGNORECASE,
)
_VERSIONS = frozenset({"ver", "version", "row_version", "lock_version", "revision", "rev"})
_WHOLE = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "int2", "int4", "int8"})


def advised(draft: Draft, seen: TableSample) -> Draft:
    """The draft with what its rows say."""
    said = dict(draft.said)
    fields = {**said.get("fields", {})}
    notes: list[Note] = [*draft.notes]
    for name, column in _columns(draft).items():
        one = seen.columns.get(name)
        evidence = None if one is None else one.evidence
        if evidence is None or not evidence.values:
            continue
        if (stored := charset_of(column, draft.table.dialect, evidence)) is not None:
            fields[name] = {"text": stored}
        notes += _of_bytes(name, column, draft.table.dialect, evidence, stored)
    if fields:
        # As people would write it: below the source.
        said = {
            "collection": said.pop("collection"),
            "source": said.pop("source"),
            "fields": fields,
            **said,
        }
    return replace(
        draft, said=said, notes=(*_of_table(draft, seen), *notes, *_of_rows(draft, seen))
    )


def charset_of(column: Column, dialect: str, evidence: Evidence) -> dict[str, str] | None:
    """The `text:` of a field whose bytes are in another charset than its column says."""
    if _is_binary(column, dialect):
        return {"stored": "utf-8", "column": "binary"} if evidence.is_text else None
    if dialect == "mysql" and column.charset == "latin1" and evidence.is_utf8:
        return {"stored": "utf-8", "column": "latin1"}
    if dialect == "sqlite" and evidence.is_latin1:
        return {"stored": "latin1"}
    return None


def timestamps(draft: Draft) -> list[str]:
    """The fields whose texts depend on the time zone of PHP's session."""
    if draft.table.dialect != "mysql":
        return []
    return [name for name, column in _columns(draft).items() if column.type == "timestamp"]


def _columns(draft: Draft) -> dict[str, Column]:
    """By field, those that have a rule."""
    source = draft.said["source"]
    left = {*draft.said.get("drop", ())}
    names = source.get("columns") or {
        one.name: one.name
        for one in draft.table.columns
        if not one.hidden and one.name != source.get("version")
    }
    found = {field: draft.table.column(name) for field, name in names.items()}
    return {field: one for field, one in found.items() if one is not None and field not in left}


def _is_binary(column: Column, dialect: str) -> bool:
    try:
        return rule(column, dialect).family.kind == "binary"
    except Unknown:
        return False


def _of_table(draft: Draft, seen: TableSample) -> Iterator[Note]:
    table = draft.table
    if seen.failed:
        yield Note("not-looked", f"its rows were not looked at: {seen.failed}")
    elif seen.all:
        yield Note("rows", f"{seen.rows:,} rows, all looked at" if seen.rows else "it has no rows")
    elif seen.rows:
        about = "" if seen.about is None else f" of about {seen.about:,}"
        yield Note("rows", f"its first and newest {seen.rows:,}{about} rows were looked at")
    log = bool(draft.said["source"].get("log"))
    if table.engine.lower() not in _TRANSACTIONAL:
        what = "a change that fails half-way, or a crash, can leave a row without its event"
        if log:
            what = "after a crash of the server the log may not say what is in it"
        yield Note(
            "engine",
            f"{table.engine} has no transactions: {what}; `bridgectl reconcile --repair` finds it",
        )
    for key in () if log else table.foreign:
        actions = [
            f"ON {what} {action}"
            for what, action in (("DELETE", key.deletes), ("UPDATE", key.updates))
            if action.upper() in ("CASCADE", "SET NULL", "SET DEFAULT")
        ]
        if actions and table.dialect == "mysql":
            names = ", ".join(key.columns)
            yield Note(
                "cascade",
                f"{' and '.join(actions)} ({names} → {key.table}) changes rows without any "
                "trigger: let PHP do it, or let `bridgectl reconcile --repair` run often",
            )
    if _CHURN.search(table.name):
        text = "by its name it is written all the time and read by PHP alone"
        yield Note("churn", f"{text}: leave it out unless Python needs it")
    if generated := [one.name for one in table.columns if one.generated]:
        names = ", ".join(generated)
        yield Note("generated", f"computed by the database, and mirrored like others: {names}")
    if not log and "version" not in draft.said["source"]:
        for column in table.columns:
            whole = column.type.lower() in _WHOLE or "int" in column.type.lower().split("(")[0]
            if column.name.lower() in _VERSIONS and whole and not column.nullable:
                yield Note(
                    "version",
                    f"`{column.name}` may be a version. If every change of a row raises it, also "
                    f"before a deletion, write `version: {column.name}` in `source`",
                )
    named = draft.entity.source.key if draft.entity.source else ()
    secrets = [
        name
        for name, column in _columns(draft).items()
        if _SECRET.search(name) and column.name not in named
    ]
    if secrets:
        text = f"by its name not for everybody; to leave it out: `drop: [{', '.join(secrets)}]`"
        yield Note("secret", text)


def _of_bytes(
    name: str,
    column: Column,
    dialect: str,
    evidence: Evidence,
    stored: dict[str, str] | None,
) -> Iterator[Note]:
    said = "binary" if _is_binary(column, dialect) else column.charset or "text"
    if stored is not None:
        text = f"`{name}` says {said} and holds {stored['stored']} ({evidence})"
        yield Note("charset", text)
        return
    if said == "binary":
        texts = evidence.plain + evidence.utf8
        if texts and evidence.control + evidence.other < texts:
            told = "and most of it is text" if evidence.control + evidence.other else ""
            told = told or "and what there is of it is text, too little to be sure"
            write = f"{name}: {{text: {{stored: utf-8, column: binary}}}}"
            yield Note("charset", f"`{name}` is {said}, {told} ({evidence}): `{write}`")
    elif dialect == "mysql" and column.charset == "latin1":
        if evidence.utf8:
            text = "UTF-8 and latin1, mixed, so that neither is right for all of it"
            yield Note("charset", f"`{name}` holds {text} ({evidence})")
    elif evidence.other:
        yield Note("charset", f"`{name}` holds what is no UTF-8 ({evidence})")
    elif evidence.twice:
        yield Note(
            "encoded-twice",
            f"`{name}` seems to hold UTF-8 that was encoded twice: {evidence.twice:,} of "
            f"{evidence.values:,} values. It is mirrored as it is; mend it in the database",
        )


def _of_rows(draft: Draft, seen: TableSample) -> Iterator[Note]:
    for name, one in seen.columns.items():
        if one.zero_dates:
            yield Note(
                "zero-date", f"`{name}`: {one.zero_dates:,} of {one.values:,} are zero dates: null"
            )
        if one.misfits and "text" not in draft.said.get("fields", {}).get(name, {}):
            shown = f", such as {one.example}" if one.example else ""
            yield Note(
                "misfit",
                f"`{name}`: {one.misfits:,} of {one.values:,} values do not fit its type{shown}: "
                "they are kept as text; `misfit: null` or `misfit: dead` otherwise",
            )
    if seen.over:
        yield Note(
            "large",
            f"{seen.over:,} rows are larger than a document may be by default; the largest has "
            f"{seen.largest:,} bytes",
        )
    for count, kind, text in (
        (seen.same, "same-key", "have the key of another row, as text: they cannot be mirrored"),
        (
            seen.long_keys,
            "long-key",
            "have a key of more than 1024 bytes: they become dead letters",
        ),
        (seen.unnamed, "no-key", "have a key that cannot be written as text"),
    ):
        if count:
            yield Note(kind, f"{count:,} rows {text}")
