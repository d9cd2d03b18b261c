"""Records what a real MariaDB writes of a table of each type, and what SELECT says of it, for the
tests without a server: `python -m tests.sync.log.record`."""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge.queue.sql.database import connect
from bridge.sync.sql.source import SqlSource
from stack.mariadb import MariaDB
from tests.sync.alltypes.all_types import Declared, in_tables, lay
from tests.sync.alltypes.everything import Everything, columns_of
from tests.sync.alltypes.producers import Site
from tests.sync.log.reading import end_of, raw_since

__all__ = ["FILE", "recorded"]

FILE = Path(__file__).with_name("recorded.json.gz")
LOG = ("--log-bin=bin", "--server-id=7", "--binlog-format=ROW", "--binlog-row-metadata=FULL")


def recorded() -> Mapping[str, Any]:
    """tables: by name the columns of each; events: their bytes; rows: by table and key the
    data that SELECT gives, after all of them."""
    found: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    found["events"] = [base64.b64decode(one) for one in found["events"]]
    return found


def _is_recorded(column: Declared) -> bool:
    """Other character sets need their server, and long texts much room."""
    words = column.declaration
    charsets = ("utf8mb4", "ucs2", "binary")
    return (
        "character set" not in words or any(f"character set {name}" in words for name in charsets)
    ) and not any("REPEAT" in value for value in column.values)


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder, MariaDB(Path(folder), options=LOG) as server:
        engine = connect(server.create_database("recorded"))
        with engine.begin() as connection:
            columns, setup, after = columns_of(connection, "mysql")
            for statement in setup:
                connection.exec_driver_sql(statement)
            began = end_of(engine)
            assert began is not None
            chosen = [one for one in columns if _is_recorded(one)]
            tables = [
                lay(connection, f"t{number}", some, after)
                for number, some in enumerate(in_tables(chosen, 45))
            ]
            for table in tables:
                connection.exec_driver_sql(f"UPDATE {table.name} SET id = -id WHERE id < 3")
                connection.exec_driver_sql(f"UPDATE {table.name} SET id = -id WHERE id = -1")
                connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE id = 3")
        engine.dispose()
        mirror = Everything(Site(engine, "mysql"), tables, columns).mirror()
        rows, declared = {}, {}
        for table in tables:
            chunk = SqlSource(engine, table.name, mirror).chunk(None, 999)
            rows[table.name] = {event.key: event.data for event in chunk.events}
            types = mirror.typed(table.name)
            assert types is not None
            declared[table.name] = [asdict(one) for one in types.table.columns]
        events = [base64.b64encode(raw).decode() for raw in raw_since(engine, began)]
        engine.dispose()
    made = {"tables": declared, "rows": rows, "events": events}
    FILE.write_bytes(gzip.compress(json.dumps(made).encode(), mtime=0))


if __name__ == "__main__":
    main()
