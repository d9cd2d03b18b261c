"""A project of more releases than one document could hold, from PHP to Python's pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest
import redis
import requests
from pymongo.database import Database

from bridge.proxy.telemetry.scrape import scrape
from stack.bridge import BridgeRelay, BridgeWorker
from stack.check import AccessLog
from stack.php import PhpServer, run_php
from stack.process import REPOSITORY
from stack.redis import Redis
from stack.waiting import wait_for, wait_until_there_are
from tests.acceptance.bridge_site import HERE, BridgeSite, run_bridge

pytestmark = pytest.mark.acceptance

LEGACY = REPOSITORY / "examples" / "forge" / "legacy"
NAME = "nightly-builds-of-everything"
COUNT = 50_000
PER_PAGE = 10
LARGEST_DOCUMENT = 16 * 1024 * 1024

ROUTES = """\
version: 1
sites:
  forge: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - name: releases
    path: /project/<name>/releases
    handler: examples.forge.consumer.views:releases
    python: 100%
"""

STANZA = """\
Package: seed
Status: install ok installed
Architecture: all
Version: 1
Description: makes the tables
"""


@dataclass
class Forge:
    """The whole way: PHP, queue, worker, MongoDB, and the proxy in front."""

    php: PhpServer
    proxy: BridgeSite
    database: Database[dict[str, Any]]

    def publish(self, count: int) -> None:
        """Make the project and its releases in PHP; wait until MongoDB holds them."""
        script = HERE / "apps" / "many_releases.php"
        assert int(run_php(script, str(LEGACY), NAME, str(count), env=self.php.env)) == count + 1
        releases = self.database["releases"]
        wait_until_there_are(count, releases.estimated_document_count, "releases in MongoDB")
        wait_for(lambda: self.database["projects"].find_one({"_id": NAME}), what="the project")

    def page(self, number: int, side: str = "python") -> str:
        """Page `number` of the list, equal from PHP and from the proxy, where `side` gave it."""
        path = f"/project/{NAME}/releases?p={number}"
        legacy = requests.get(self.php.url + path, timeout=30)

        def answered() -> bool:
            start = self._log.end()
            ours = requests.get(f"http://{self.proxy.address}{path}", timeout=30)
            assert ours.status_code == legacy.status_code
            assert ours.content == legacy.content
            entries = wait_for(
                lambda: self._log.entries(urlsplit(path).path, start), what="its line in the log"
            )
            return bool(entries[0]["backend"] == side)

        # A busy machine may take longer than a page waits for MongoDB; PHP answers then.
        wait_for(answered, 20, f"page {number} from {side}", interval=0.2)
        return legacy.text

    @property
    def _log(self) -> AccessLog:
        return AccessLog(self.proxy.access_log)


@pytest.fixture
def forge(
    tmp_path: Path,
    clean_mongodb: Database[dict[str, Any]],
    mongodb_url: str,
    redis_server: Redis,
    clean_redis: redis.Redis,
) -> Iterator[Forge]:
    """An empty forge with its servers."""
    legacy = {
        "FORGE_DATA_DIR": str(tmp_path / "forge"),
        "FORGE_REDIS_PORT": str(redis_server.port),
    }
    bridge = {
        "BRIDGE_MONGODB_URL": mongodb_url,
        "BRIDGE_BROKER_URL": redis_server.url,
        "BRIDGE_SYNC": str(REPOSITORY / "sync.yaml"),
        "BRIDGE_SQL_URL": f"sqlite:///{tmp_path / 'forge' / 'forge.sqlite'}",
        "BRIDGE_STATE_DIR": str(tmp_path / "proxy" / "state"),
    }
    (tmp_path / "stanza").write_text(STANZA, encoding="utf-8")
    run_php(LEGACY / "bin" / "load.php", "--from", str(tmp_path / "stanza"), env=legacy)
    made = run_bridge("sync", "init", env=bridge)
    assert made.returncode == 0, made.stderr
    with ExitStack() as stack:
        php = stack.enter_context(
            PhpServer(tmp_path / "php", LEGACY / "htdocs", router=LEGACY / "router.php", env=legacy)
        )
        stack.enter_context(BridgeWorker(tmp_path / "worker", env=bridge))
        # On a busy machine PHP leaves some to it: 50 ms for Redis, and then not again for a while.
        stack.enter_context(BridgeRelay(tmp_path / "relay", env=bridge))
        routes = ROUTES.replace("@PHP@", php.url)
        proxy = stack.enter_context(BridgeSite(tmp_path / "proxy", routes, env=bridge))
        yield Forge(php, proxy, clean_mongodb)


@pytest.mark.slow
def test_the_list_of_fifty_thousand_releases_is_paged_as_php_pages_it(forge: Forge) -> None:
    forge.publish(COUNT)

    # They are documents of their own, because one for all of them cannot be.
    releases = forge.database["releases"]
    whole = {"_id": NAME, "releases": list(releases.find({}, {"_id": 0, "_v": 0, "_at": 0}))}
    assert len(bson.encode(whole)) > LARGEST_DOCUMENT

    pages = COUNT // PER_PAGE
    assert "Previous page" not in forge.page(1)
    middle = forge.page(pages // 2)
    assert "Previous page" in middle
    assert "Next page" in middle
    assert "Next page" not in forge.page(pages)
    assert "Page not found" in forge.page(pages + 1, "php")

    # The operator sees that the project came from memory again and again.
    wait_for(
        lambda: re.search(rb'cache_reads_total{result="hit"} [1-9]', scrape(forge.proxy.state)),
        what="the reads of the cache among the metrics",
    )
