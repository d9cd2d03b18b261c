"""A program that knows nothing of the bridge is used as ever, and MongoDB holds all of its tables.

WordPress and MediaWiki as Debian has them, and a board written by hand in the manner of 2005.
"""

from __future__ import annotations

import re

import pytest

from tests.programs.conftest import Program

pytestmark = [pytest.mark.programs, pytest.mark.timeout(600)]


def test_every_table_that_can_be_is_mirrored(program: Program) -> None:
    """Those in which nothing tells two rows apart are left out; nothing else is."""
    mirrored = program.mirrored
    sources = {one["source"]["table"] for one in mirrored.entities.values()}
    assert sources == mirrored.tables.names - mirrored.tables.without_key


def test_the_first_load_is_equal(program: Program) -> None:
    """Before anybody goes on to edit."""
    program.mirrored.check_equal()


def test_what_people_do_with_it_is_in_mongodb(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hundreds of rows in all tables that they can reach, nothing in the dead letters."""
    tables = program.mirrored.tables
    tables.remember()
    program.people.go_on()
    changed = tables.changed()
    with capsys.disabled():
        print(f"\n{program.server.name}: {sum(changed.values())} rows in {len(changed)} tables")
    assert changed.keys() >= program.touched
    program.mirrored.check_equal()


def test_what_people_wrote_can_be_read_in_mongodb(program: Program) -> None:
    """As text, whether the column is in latin1, in utf8mb4 or has no charset at all."""
    table, column, value = program.seen
    mirrored = program.mirrored
    [entity] = [n for n, one in mirrored.entities.items() if one["source"]["table"] == table]
    assert value in [document[column] for document in mirrored.documents(entity)]


def test_it_notices_nothing(program: Program) -> None:
    """No query of its own has failed, and no page."""
    said = [line for line in program.server.log_text().splitlines() if _complains(line)]
    assert said == []
    errors = program.server.directory / "dberror.log"
    assert not errors.exists(), errors.read_text()


def test_damage_is_found_and_repaired(program: Program) -> None:
    """In every collection, by key and by kind."""
    program.mirrored.check_damage_is_found()


def _complains(line: str) -> bool:
    """Whether a query or a whole page has failed. WordPress has warnings of its own."""
    return re.search("database error|PHP Fatal|General Error", line) is not None
