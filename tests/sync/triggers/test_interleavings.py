"""Two relays, a snapshot and events in any order while the site writes: the last state wins."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import sqlalchemy as sql

from bridge.queue.events import Event
from bridge.queue.relay.touched import resolve
from bridge.sync.sql.source import SqlSource
from bridge.sync.touched import Fetcher
from tests.sync.triggers.trigger_site import DIALECTS, Mongo, Site, url_for

SYNC = "version: 1\nentities: {thing: {collection: things, source: {table: things, key: id}}}"
KEYS = 8
WRITES = 60


@pytest.mark.parametrize("kind", DIALECTS)
def test_two_relays_a_snapshot_and_any_order_of_events_end_with_the_last_state(
    request: pytest.FixtureRequest, kind: str, clean_mongodb: Mongo, tmp_path: Path
) -> None:
    """Whoever is late, and whatever comes twice: MongoDB ends as SQL is."""
    chance = random.Random(11)
    site = Site(url_for(request, kind), clean_mongodb, tmp_path, SYNC)
    site.begin("CREATE TABLE things (id INT NOT NULL PRIMARY KEY, n INT)")
    events: list[Event] = []
    errors: list[BaseException] = []
    written = threading.Event()

    def guarded(do: object) -> threading.Thread:
        def run() -> None:
            try:
                do()  # type: ignore[operator]
            except BaseException as error:
                errors.append(error)
                written.set()

        return threading.Thread(target=run)

    def write() -> None:
        try:
            for n in range(WRITES):
                key = chance.randrange(KEYS)
                with site.engine.begin() as connection:
                    gone = connection.execute(
                        sql.text("DELETE FROM things WHERE id = :id"), {"id": key}
                    )
                    if n % 3 or not gone.rowcount:
                        connection.execute(
                            sql.text("INSERT INTO things VALUES (:id, :n)"), {"id": key, "n": n}
                        )
        finally:
            written.set()

    def relay() -> None:
        """It forgets nothing until the site is done, as if MongoDB held nothing yet."""
        fetch = Fetcher(site.engine, site.mirror, "/site")
        while True:
            last = written.is_set()
            rows = site.outbox.claim(3, 0.0)
            found = resolve(rows, fetch)
            events.extend(map(Event.parse, found.events))
            if last:
                return

    def snapshot() -> None:
        while not written.is_set():
            source = SqlSource(site.engine, "thing", site.mirror)
            events.extend(source.chunk(None, 100).events)

    threads = [guarded(one) for one in (write, relay, relay, snapshot)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    events += (Event.parse(one) for one in site.take().events)

    assert len(events) > KEYS
    for order in range(3):
        clean_mongodb["things"].delete_many({})
        shuffled = [*events, *chance.sample(events, len(events) // 3)]
        random.Random(order).shuffle(shuffled)
        for event in shuffled:
            site.apply([event])
        site.assert_equal()
    site.engine.dispose()
