"""The site of the tests of faults: its tables, its sync.yaml, and one edit of it."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from stack.process import REPOSITORY

Identity = tuple[str, str]
"""Entity and key."""

SYNC = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: ver, deleted: gone}
    children: {releases: {entity: release, key: version}}
  release:
    collection: releases
    source: {table: releases, key: [project, version], version: ver}
  page:
    collection: pages
    source: {table: pages, key: name, version: ver}
"""
TABLES = [
    "CREATE TABLE projects (name VARCHAR(40) PRIMARY KEY, ver BIGINT NOT NULL, title VARCHAR(80) "
    "NOT NULL, gone TINYINT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE releases (project VARCHAR(40), version VARCHAR(20), file VARCHAR(80) NOT NULL, "
    "ver BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (project, version)) ENGINE=InnoDB",
    "CREATE TABLE pages (name VARCHAR(40) PRIMARY KEY, ver BIGINT NOT NULL, body VARCHAR(200) NOT "
    "NULL) ENGINE=InnoDB",
    # A deleted row that comes back goes on counting.
    "CREATE TABLE counters (entity VARCHAR(10), name VARCHAR(40), ver BIGINT NOT NULL, "
    "PRIMARY KEY (entity, name)) ENGINE=InnoDB",
]
WATCHED = [f"watched{number}" for number in range(10)]
"""Pages that are edited most, and never deleted."""
QUIET = 40
"""So many projects and pages, `quiet0` and so on, are never edited: to be damaged."""
OUT = "INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at) "
"""All that an outbox row needs, but its values."""


def projects(rows: int) -> list[str]:
    """All there are, in their order."""
    return [f"p{number:04}" for number in range(rows)] + _quiet()


def _quiet() -> list[str]:
    return [f"quiet{number:03}" for number in range(QUIET)]


def fill(rows: int) -> list[str]:
    """The statements that make the site, with two releases of each project."""
    names = projects(rows)
    pages = [f"a{number:04}" for number in range(rows)] + _quiet() + WATCHED
    outbox = (REPOSITORY / "php/sql/outbox.mysql.sql").read_text(encoding="utf-8")
    return [
        outbox,
        *TABLES,
        "INSERT INTO projects VALUES " + ", ".join(f"('{name}', 1, 'first', 0)" for name in names),
        "INSERT INTO releases (project, version, file) VALUES "
        + ", ".join(f"('{name}', '{n}', 'f')" for name in names for n in (1, 2)),
        "INSERT INTO pages VALUES " + ", ".join(f"('{name}', 1, 'first')" for name in pages),
        "INSERT INTO counters SELECT 'project', name, 1 FROM projects",
        "INSERT INTO counters SELECT 'page', name, 1 FROM pages",
    ]


def edit(connection: Any, chance: random.Random, rows: int) -> tuple[Identity, int]:
    """One edit of a random project or page, and its outbox row, in one transaction; what was
    edited, and its version. Raises pymysql's errors."""
    entity = chance.choice(("project", "page", "page"))
    if entity == "page" and chance.random() < 0.5:
        name = chance.choice(WATCHED)
    else:
        name = f"{'p' if entity == 'project' else 'a'}{chance.randrange(rows):04}"
    with connection.cursor() as cursor:
        connection.begin()
        # Under this lock versions follow the order of commits.
        cursor.execute(
            "UPDATE counters SET ver = ver + 1 WHERE entity = %s AND name = %s", (entity, name)
        )
        cursor.execute("SELECT ver FROM counters WHERE entity = %s AND name = %s", (entity, name))
        [(version,)] = cursor.fetchall()
        gone = chance.random() < 0.15 and name not in WATCHED
        change = _project if entity == "project" else _page
        data = change(cursor, name, version, gone, chance)
        kind = "deleted" if data is None else "changed"
        cursor.execute(
            f"{OUT} VALUES (%s, %s, %s, %s, %s, %s)",
            (
                entity,
                name,
                f"{entity}.{kind}",
                None if data is None else json.dumps(data),
                version,
                int(time.time() * 1000),
            ),
        )
        connection.commit()
    return (entity, name), version


def _project(
    cursor: Any, name: str, version: int, gone: bool, chance: random.Random
) -> dict[str, Any] | None:
    title = f"{name} {version} {chance.random()}"
    cursor.execute(
        "UPDATE projects SET ver = %s, title = %s, gone = %s WHERE name = %s",
        (version, title, gone, name),
    )
    if gone:
        return None
    cursor.execute("DELETE FROM releases WHERE project = %s", (name,))
    numbers = sorted(chance.sample(range(8), chance.randrange(5)))
    releases = [{"project": name, "version": str(n), "file": f"{n} {version}"} for n in numbers]
    for one in releases:
        cursor.execute(
            "INSERT INTO releases (project, version, file) VALUES (%s, %s, %s)",
            (one["project"], one["version"], one["file"]),
        )
    return {"name": name, "title": title, "releases": releases}


def _page(
    cursor: Any, name: str, version: int, gone: bool, chance: random.Random
) -> dict[str, Any] | None:
    cursor.execute("DELETE FROM pages WHERE name = %s", (name,))
    if gone:
        return None
    body = f"{name} {version} {chance.random()}"
    cursor.execute("INSERT INTO pages VALUES (%s, %s, %s)", (name, version, body))
    return {"name": name, "body": body}
