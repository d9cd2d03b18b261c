"""Whatever a table is called and has, its draft is a good sync.yaml."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sync.entities import load
from bridge.sync.propose.advice import advised
from bridge.sync.propose.draft import draft, why_not
from bridge.sync.propose.look import TableSample
from bridge.sync.propose.proposal import LeftOut, Proposal
from bridge.sync.propose.written import as_data, written
from bridge.sync.types.column import Column, ForeignKey, Table
from bridge.sync.types.typed import misfits, typed

TYPES = {
    "mysql": ("int", "bigint", "varchar", "longtext", "blob", "datetime", "timestamp", "json",
              "geometry", "decimal", "float", "bit", "enum", "year"),
    "postgresql": ("int4", "text", "bytea", "jsonb", "_int4", "tsvector", "timestamptz", "money",
                   "numeric", "uuid", "point"),
    "sqlite": ("INTEGER", "TEXT", "", "BLOB", "DATETIME", "POINT", "VARCHAR(20)"),
}  # fmt: skip
NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1,
            max_size=12),
    st.sampled_from(["_id", "$x", "a.b", "null", "yes", "-a", "Ver", "ver", "café", "a b", "user"]),
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn, name: st.SearchStrategy[str] = NAMES) -> Table:
    dialect = draw(st.sampled_from(sorted(TYPES)))
    called = draw(st.lists(NAMES, min_size=1, max_size=8, unique_by=str.casefold))
    columns = tuple(
        Column(
            one,
            kind := draw(st.sampled_from(TYPES[dialect])),
            kind,
            draw(st.booleans()),
            members=("a", "b") if kind == "enum" else (),
            hidden=draw(st.integers(0, 9)) == 0,
        )
        for one in called
    )
    some = st.lists(st.sampled_from(called), min_size=1, max_size=4, unique=True).map(tuple)
    fixed = {one.name for one in columns if not one.nullable}
    unique = [one for one in draw(st.lists(some, max_size=3)) if set(one) <= fixed]
    return Table(
        dialect,
        None,
        draw(name),
        columns,
        draw(st.one_of(st.just(()), some)),
        tuple(unique),
        tuple(draw(st.lists(some, max_size=5))) + tuple(unique),
        tuple(ForeignKey(one, "other", "CASCADE") for one in draw(st.lists(some, max_size=2))),
        draw(st.sampled_from(["", "InnoDB", "MyISAM"])),
    )


def proposal(given_tables: list[Table]) -> Proposal:
    taken: set[str] = set()
    drafts, left_out = [], []
    for table in given_tables:
        if (why := why_not(table, "bridge_outbox")) is not None:
            left_out.append(LeftOut(table.name, why))
            continue
        drafts.append(draft(table, taken))
        taken |= {drafts[-1].name, str(drafts[-1].said["collection"])}
    return Proposal(tuple(drafts), tuple(left_out), None, {}, 0)


@settings(deadline=None)
@given(st.lists(tables(), max_size=4, unique_by=lambda table: table.name))
def test_every_proposal_is_a_file_that_check_takes(
    tmp_path_factory: pytest.TempPathFactory, given_tables: list[Table]
) -> None:
    """It reads back as what was meant, fits the tables, and loses none of them."""
    found = proposal(given_tables)
    path = tmp_path_factory.mktemp("proposed") / "sync.yaml"
    path.write_text(written(found, "mysql://host/shop"), encoding="utf-8")

    file = load(path)

    assert dict(file.entities) == {one.name: one.entity for one in found.entities}
    for one in found.entities:
        assert misfits(one.name, file.entities[one.name], one.table) == []
        types = typed(one.name, file.entities[one.name], one.table, None)
        indexed = {
            field.removeprefix("-")
            for index in file.entities[one.name].indexes
            for field in index.fields
        }
        assert indexed <= set(types.rules)
    assert len(found.entities) + len(found.left_out) == len(given_tables)
    assert list(as_data(found)["entities"]) == list(file.entities)


@settings(deadline=None)
@given(tables())
def test_a_table_without_a_name_for_its_rows_is_left_out_with_the_reason(table: Table) -> None:
    """A primary key, or a unique index over columns that are never NULL, is one."""
    why = why_not(table, "bridge_outbox")
    if not table.key and not table.unique:
        assert why is not None
    if why is None:
        key = draft(table, ()).entity.source
        assert key is not None
        assert key.key in (table.key, *table.unique)


@settings(deadline=None)
@given(tables())
def test_what_is_said_for_the_log_can_be_done_there(table: Table) -> None:
    """Queries, columns of versions and triggers are no way there, and floating points no key."""
    why = why_not(table, "bridge_outbox", log=True)
    notes = (
        [why] if why else list((made := advised(draft(table, (), log=True), TableSample())).notes)
    )
    for note in notes:
        assert not re.search("query:|version:|trigger|view|event", note.text), note
    if why is None:
        source = made.entity.source
        assert source is not None
        assert source.log is True
        assert "float" not in {one.type for one in table.columns if one.name in source.key}


def test_a_table_whose_only_key_has_floating_points_is_left_out_for_the_log() -> None:
    """The log has the number, and not the text that a key is."""
    columns = (Column("half", "float", "float", False), Column("id", "int", "int", False))
    table = Table("mysql", None, "t", columns, ("half",))
    assert why_not(table, "bridge_outbox") is None
    why = why_not(table, "bridge_outbox", log=True)
    assert why is not None
    assert why.text == (
        "the log does not have the text of its key (half float); add another unique index"
    )
    other = replace(table, unique=(("id",),))
    assert why_not(other, "bridge_outbox", log=True) is None
    assert draft(other, (), log=True).said["source"] == {"table": "t", "key": "id", "log": True}


def shop(**more: object) -> Table:
    """A table of orders, with more about it."""
    columns = tuple(
        Column(name, kind, kind, nullable)
        for name, kind, nullable in (
            ("id", "int", False), ("ver", "int", False), ("customer", "int", True),
            ("number", "varchar", False), ("placed", "datetime", False), ("area", "geometry", True),
        )
    )  # fmt: skip
    settings_: dict[str, object] = {"key": ("id",), "indexes": (), **more}
    return Table("mysql", None, "orders", columns, **settings_)  # type: ignore[arg-type]


def test_versions_are_beside_the_table_unless_a_column_is_named() -> None:
    """A column that is called so need not be one."""
    assert "version" not in draft(shop(), ()).said["source"]
    assert draft(shop(), (), "ver").said["source"]["version"] == "ver"
    assert "version" not in draft(shop(), (), "placed").said["source"]
    assert "version" not in draft(shop(), (), "missing").said["source"]


def test_a_type_without_a_rule_is_dropped_and_told() -> None:
    """Its column would be refused otherwise."""
    made = draft(shop(), ())
    assert made.said["drop"] == ["area"]
    assert [note.kind for note in made.notes] == ["no-rule"]


def test_indexes_are_those_of_the_table_and_of_its_foreign_keys() -> None:
    """What a longer one does already is left out, and so is the key."""
    table = shop(
        indexes=(("customer",), ("customer", "placed"), ("number",), ("id",)),
        unique=(("number",),),
        foreign=(ForeignKey(("customer",), "customers"), ForeignKey(("ver",), "versions")),
    )
    assert draft(table, ()).said["indexes"] == [
        ["customer", "placed"],
        {"fields": ["number"], "unique": True},
        "ver",
    ]


@pytest.mark.parametrize("column", ["customer", "placed"])
def test_an_index_is_unique_only_where_documents_are(column: str) -> None:
    """NULLs are not, and moments lose microseconds."""
    table = shop(indexes=((column,),), unique=((column,),))
    assert draft(table, ()).said["indexes"] == [column]


def test_a_proposal_never_names_the_tables_of_the_bridge() -> None:
    """They would mirror themselves."""
    for name in ("bridge_versions", "bridge_outbox"):
        why = why_not(Table("mysql", None, name, shop().columns, ("id",)), "shop.bridge_outbox")
        assert why is not None
        assert why.kind == "ours"
