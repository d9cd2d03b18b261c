"""What it costs a visitor that legacy's answer waits for the end of the database's log: POSTs to a
page of PHP that inserts a row, through two bridges of which one asks, in turns.

Visitors are a process of their own. Each connection says one POST after the other, to both bridges,
in an order by chance.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.log_site import LOG, say
from bench.queue_programs import Program, running
from bench.report import BenchmarkFailed
from bridge.queue.sql.database import connect
from stack.bridge import BridgeServe
from stack.mariadb import MariaDB
from stack.php import PhpServer

__all__ = ["own_edits"]

POSTS, QUICK_POSTS = 2000, 100
"""To each bridge, of a round."""
VISITORS = 4
WARM = 20
ROUTES = """\
version: 1
sites: {site: {hosts: ['127.0.0.1:*'], legacy: php}}
backends: {php: {url: %s}}
"""
SYNC = """\
version: 1
entities:
  page: {collection: pages, source: {table: pages, key: id, log: true}}
"""
PAGE = """\
<?php
$database = new PDO('mysql:host=127.0.0.1;port=%d;dbname=site', 'root', '');
$database->exec("INSERT INTO pages (title) VALUES ('x')");
echo 'ok';
"""
Times = dict[bool, list[float]]
"""Milliseconds of each POST; whether the bridge asked."""


def own_edits(folder: Path, rounds: int, progress: Console) -> list[Times]:
    """Of each round; one round is short. Raises BenchmarkFailed and StackError."""
    count = QUICK_POSTS if rounds == 1 else POSTS
    found = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            MariaDB(folder / "mariadb", database="site", options=LOG, buffer_pool="256M")
        )
        engine = connect(server.url)
        say(engine, "CREATE TABLE pages (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(20))")
        engine.dispose()
        root = folder / "root"
        root.mkdir()
        (root / "index.php").write_text(PAGE % server.port, encoding="utf-8")
        php = stack.enter_context(PhpServer(folder / "php", root))
        ports = {
            asks: stack.enter_context(_bridge(folder / f"asks-{asks}", php.url, server, asks)).port
            for asks in (True, False)
        }
        for number in range(rounds):
            progress.print(f"own edits: round {number + 1} of {rounds}", style="dim")
            visitors = Program(post, ports, count)
            with running(visitors):
                visitors.go()
                found.append(visitors.result())
    return found


def _bridge(folder: Path, legacy: str, server: MariaDB, asks: bool) -> BridgeServe:
    folder.mkdir()
    (folder / "routes.yaml").write_text(ROUTES % legacy, encoding="utf-8")
    (folder / "sync.yaml").write_text(SYNC, encoding="utf-8")
    env = {
        "BRIDGE_ROUTES": str(folder / "routes.yaml"),
        "BRIDGE_STATE_DIR": str(folder / "state"),
        "BRIDGE_SYNC": str(folder / "sync.yaml"),
        "BRIDGE_SQL_URL": server.url,
    }
    if asks:
        env["BRIDGE_FRESHNESS_KEYS"] = "a1:0123456789abcdef"
    return BridgeServe(folder / "serve", env=env)


@contextlib.contextmanager
def post(ports: dict[bool, int], count: int) -> Iterator[Callable[[], Any]]:
    """Finds the times of each bridge."""
    found: Times = {asks: [] for asks in ports}
    errors: list[str] = []

    def visit(number: int) -> None:
        chance = random.Random(number)
        connections = {
            asks: http.client.HTTPConnection("127.0.0.1", port) for asks, port in ports.items()
        }
        try:
            for turn in range(WARM + count // VISITORS):
                for asks in chance.sample([True, False], 2):
                    began = time.perf_counter()
                    connections[asks].request("POST", "/", b"a=1")
                    answer = connections[asks].getresponse()
                    body = answer.read()
                    took = (time.perf_counter() - began) * 1000
                    told = answer.getheader("Set-Cookie") is not None
                    if (answer.status, body) != (200, b"ok") or (told and not asks):
                        raise BenchmarkFailed(f"{answer.status} {body[:80]!r}, cookie: {told}")
                    if asks and not told:
                        missed.append(turn)
                    if turn >= WARM:
                        found[asks].append(took)
        except (BenchmarkFailed, OSError, http.client.HTTPException) as error:
            errors.append(f"{type(error).__name__}: {error}")

    missed: list[int] = []

    def work() -> Times:
        threads = [threading.Thread(target=visit, args=(one,)) for one in range(VISITORS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise BenchmarkFailed(errors[0])
        # The question has a budget; an answer that goes without is late by all of it.
        if len(missed) > count // 20:
            raise BenchmarkFailed(f"{len(missed)} of {count} answers say nothing of the log's end")
        return found

    yield work
