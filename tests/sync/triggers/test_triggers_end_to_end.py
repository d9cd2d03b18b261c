"""From a statement of the site's to MongoDB: triggers, `bridgectl relay` and `bridgectl worker`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.settings import Settings
from bridge.sync.relay import run_relay
from bridge.sync.triggers.findings import findings
from bridge.sync.worker import run_worker
from stack.waiting import wait_for
from tests.sync.triggers.trigger_site import DIALECTS, Mongo, Site, url_for

SYNC = """\
version: 1
entities:
  thing: {collection: things, source: {table: things, key: id}}
"""


@contextmanager
def running(run: Callable[..., Any], settings: Settings) -> Iterator[None]:
    """A relay or a worker on a thread of its own; what it raises is raised at the end."""
    stop, errors = threading.Event(), []

    def work() -> None:
        try:
            run(settings, stop=stop, log=structlog.get_logger())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("kind", DIALECTS)
def test_what_the_site_does_is_in_mongodb_and_the_outbox_is_empty(
    request: pytest.FixtureRequest,
    kind: str,
    clean_mongodb: Mongo,
    mongodb_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    url = url_for(request, kind)
    site = Site(url, clean_mongodb, tmp_path, SYNC)
    site.begin(
        "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, n INT)",
        "INSERT INTO things VALUES (1, 1), (2, 2)",
    )
    settings = replace(
        Settings(tmp_path / "routes.yaml", redis_url, mongodb_url, tmp_path, sync=site.path),
        sql_url=url,
    )

    with running(run_worker, settings), running(run_relay, settings):
        site.run("INSERT INTO things VALUES (3, 3)", "UPDATE things SET n = 20 WHERE id = 2")
        site.run("DELETE FROM things WHERE id = 1")
        wait_for(lambda: not site.notes(), 30)

    site.assert_equal()
    assert site.keys("things") == {"2", "3"}
    assert [one.state for one in findings(site.engine, site.mirror, site.outbox)] == ["ok"]
    site.triggers.drop([])
    [found] = findings(site.engine, site.mirror, site.outbox)
    assert (found.state, found.do) == ("bad", "bridgectl sync triggers thing --apply")
    site.engine.dispose()
