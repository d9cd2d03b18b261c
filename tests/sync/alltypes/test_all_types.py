"""Every type of every database, times its borders, times every producer: one document."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge.errors import BridgeError
from bridge.queue.sql.database import connect
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.models import File
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.sql.source import SqlSource
from tests.sync.alltypes import types_of_mysql
from tests.sync.alltypes.everything import Everything, differences, documents, same
from tests.sync.alltypes.exceptions import EXCEPTIONS, Differs
from tests.sync.alltypes.printed import printed
from tests.sync.alltypes.producers import (
    OLD_WAYS,
    PHP_WAYS,
    by_http,
    by_log,
    by_old_php,
    by_php,
    by_snapshot,
    by_trigger,
)


@pytest.mark.timeout(600)
def test_every_producer_makes_the_same_document(everything: Everything, tmp_path: Path) -> None:
    """Field by field and by type, for every border of every type; what cannot be so has its
    reason in a list, and the list has no line too many."""
    site, tables, mirror = everything.site, everything.tables, everything.mirror()
    expected = documents(mirror, by_snapshot(site, tables, mirror))
    wrong: list[Differs] = []
    for way in PHP_WAYS[site.dialect]:
        events, refused = by_php(site, tables, way, tmp_path / way)
        wrong += differences(everything, way, expected, documents(mirror, events), refused)
    for way in OLD_WAYS if everything.many or site.dialect == "mysql" else ():
        events, refused = by_old_php(site, tables, way, tmp_path / way)
        wrong += differences(everything, way, expected, documents(mirror, events), refused)
    sent = documents(mirror, by_http(site, tables))
    wrong += differences(everything, "http", expected, sent, set())
    if everything.began is not None:
        logged = documents(mirror, by_log(site, tables, mirror, everything.began))
        wrong += differences(everything, "log", expected, logged, set())
    events, refused = by_trigger(site, tables)
    wrong += differences(everything, "trigger", expected, documents(mirror, events), refused)

    excepted = [one for one in EXCEPTIONS if one.dialect == site.dialect]
    assert [one for one in wrong if not any(two.holds(one) for two in excepted)] == []
    assert [two.reason for two in excepted if not any(two.holds(one) for one in wrong)] == []


def test_a_document_holds_what_the_database_prints(everything: Everything) -> None:
    """Exactly, whatever the rules are: read by a second reader that knows none of them."""
    site, tables, mirror = everything.site, everything.tables, everything.mirror()
    found = documents(mirror, by_snapshot(site, tables, mirror))
    wrong = [
        (
            table.columns[name].declaration,
            table.literal(name, int(key)),
            value,
            found[table.name, key][name],
        )
        for table in tables
        for key, row in printed(site, table).items()
        for name, value in row.items()
        if not same(value, found[table.name, key][name])
    ]
    assert wrong == []


def test_mongodb_holds_the_same_whichever_producer_wrote(
    everything: Everything, tmp_path: Path, clean_mongodb: Database[dict[str, Any]]
) -> None:
    """The deep comparison of `bridgectl reconcile` says so."""
    site, tables = everything.site, everything.tables
    mirror = everything.mirror()
    way = PHP_WAYS[site.dialect][0]
    for events in (
        by_snapshot(site, tables, mirror),
        by_php(site, tables, way, tmp_path / way)[0] if site.dialect != "sqlite" else [],
        by_http(site, tables) if site.dialect != "sqlite" else [],
    ):
        apply(clean_mongodb, mirror, [replace(event, rewrite=True) for event in events])
        reconciler = Reconciler(
            site.engine, clean_mongodb, mirror, ReconcileOptions(wait=0.0, deep=True)
        )
        for table in tables:
            result = reconciler.run(table.name)
            assert (result.differences, result.compared) == ([], table.rows)


def test_no_type_of_the_server_is_left_out(everything: Everything) -> None:
    """The server is asked which types it has; PostgreSQL's list is made from its answer."""
    if everything.site.dialect != "mysql":
        return
    with everything.site.engine.connect() as connection:
        there = types_of_mysql.types_of_server(connection)
    tried = {
        one.declaration.partition("(")[0].partition(" ")[0]
        for one in everything.columns
        if one.kind != "json"  # a longtext
    }
    assert there == tried | types_of_mysql.SPATIAL


@pytest.mark.parametrize("kind", sorted(types_of_mysql.SPATIAL))
def test_a_place_of_mysql_is_refused_by_name(mariadb_url: str, kind: str) -> None:
    """Nobody can say what a document should hold of it: the message names column and type, and
    what to write; left out, it is no matter."""
    engine = connect(mariadb_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE places (id INT PRIMARY KEY, ver INT, at {kind})")
        connection.exec_driver_sql("INSERT INTO places VALUES (1, 1, NULL)")
    source = {"table": "places", "key": "id", "version": "ver"}

    def read(**more: Any) -> list[Any]:
        entity = {"collection": "places", "source": source, **more}
        file = File.model_validate({"version": 1, "entities": {"place": entity}})
        return SqlSource(engine, "place", Mirror(file)).chunk(None, 10).events

    with pytest.raises(BridgeError, match=f"column at of which the type, {kind}, has no rule"):
        read()
    assert [event.data for event in read(drop=["at"])] == [{"id": 1}]
    engine.dispose()
