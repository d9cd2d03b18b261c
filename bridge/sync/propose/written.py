"""A proposal as the text of a sync.yaml, with what a person should know as comments. Pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bridge.sync.propose.draft import Draft
from bridge.sync.propose.proposal import Proposal
from bridge.units import several

__all__ = ["as_data", "flow", "next_steps", "written"]

WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# What some reader of YAML takes for something else than text.
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def written(found: Proposal, where: str) -> str:
    """The file. where: the database, without its password."""
    lines = _comment(_intro(found, where), "")
    for need in found.needs or ():
        kind = "Better" if need.is_advice else "Missing"
        lines += _comment(f"- {kind}: {need.says}: {need.do}", "", hanging="  ")
    lines.append("version: 1")
    if found.timestamps and found.needs is None:  # from the log they come in UTC, always
        lines += _comment(_about_zone(found.timestamps), "")
        lines.append("# zone: Europe/Berlin")
    if found.max_document is not None:
        lines += _comment("Some rows are larger than 1 MiB. MongoDB takes 16 MiB at most.", "")
        lines.append(f"max_document: {found.max_document // 2**20}MiB")
    lines.append("entities:" if found.entities else "entities: {}")
    for number, one in enumerate(found.entities):
        lines += [*([""] if number else []), *_entity(one)]
    if found.left_out:
        lines += ["", *_comment("Left out:", "")]
    reasons: dict[str, list[str]] = {}
    for left in found.left_out:
        reasons.setdefault(left.note.text, []).append(left.table)
    for why, tables in reasons.items():
        lines += _comment(f"- {', '.join(tables)}: {why}", "", hanging="  ")
    return "\n".join(lines) + "\n"


def as_data(found: Proposal) -> dict[str, Any]:
    """The same for programs."""
    return {
        "version": 1,
        "max_document": found.max_document,
        "timestamps": found.timestamps,
        "needs": None if found.needs is None else [asdict(need) for need in found.needs],
        "entities": {
            one.name: {**one.said, "notes": [asdict(note) for note in one.notes]}
            for one in found.entities
        },
        "left_out": [{"table": one.table, **asdict(one.note)} for one in found.left_out],
    }


def _intro(found: Proposal, where: str) -> str:
    looked = (
        f"up to {found.rows:,} rows of each table were looked at, and the newest"
        if found.rows
        else "no rows were looked at"
    )
    tables = several(len(found.entities), "table")
    return (
        f"Proposed by `bridgectl sync propose` from {where}: {tables}, "
        f"{len(found.left_out)} left out; {looked}. Remove what Python does not need, and read "
        "the comments. `bridgectl sync types` shows what each column becomes. Then: "
        f"{', '.join(next_steps(log=found.needs is not None))}."
    )


def next_steps(*, log: bool) -> list[str]:
    """What is typed when the file was read. log: whether changes come from the database's log."""
    way = ["sync triggers --apply", "worker", "relay", "snapshot"]
    if log:
        way = ["capture", "snapshot"]
    return [f"bridgectl {one}" for one in ("check", "sync init", *way, "reconcile --deep")]


def _about_zone(timestamps: Mapping[str, list[str]]) -> str:
    columns = [f"{entity}.{name}" for entity, names in timestamps.items() for name in names]
    named = ", ".join(columns[:6]) + (f" and {len(columns) - 6} more" if columns[6:] else "")
    return (
        f"TIMESTAMP columns ({named}) are read in UTC from the database. PHP sees them in the "
        "time zone of its session: where PHP sends rows itself, write that zone here."
    )


def _entity(one: Draft) -> Iterator[str]:
    for note in one.notes:
        yield from _comment(f"- {note.text}", "  ", hanging="  ")
    yield f"  {flow(one.name)}:"
    for name, value in one.said.items():
        yield from _said(name, value)


def _said(name: str, value: Any) -> Iterator[str]:
    whole = f"    {name}: {flow(value)}"
    if len(whole) <= WIDTH and name != "fields":
        yield whole
    elif isinstance(value, Mapping):
        yield f"    {name}:"
        for key, inner in value.items():
            yield f"      {flow(key)}: {flow(inner)}"
    else:
        yield f"    {name}:"
        for inner in value:
            yield f"      - {flow(inner)}"


def flow(value: Any) -> str:
    """YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return '"' + "".join(map(_quoted, value)) + '"'


def _quoted(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _comment(text: str, indent: str, hanging: str = "") -> list[str]:
    # A name may hold anything, a line break too.
    text = "".join(one if one.isprintable() else _quoted(one) for one in text)
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# {hanging}",
        break_long_words=False,
        break_on_hyphens=False,
    )
