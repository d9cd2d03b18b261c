"""A scrape stays what it was, however many workers there have been: with real ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry.workers import read_all
from stack.waiting import wait_for
from tests.proxy.shells.double import Backend
from tests.proxy.shells.serving import Bridge

WORKERS = 200
PLACES = 8  # a worker goes on until the next one serves, so there may be two for one at a time


@pytest.mark.long
@pytest.mark.timeout(900)
def test_200_workers_one_after_the_other_leave_a_few_files(
    http_home: Path, double: Backend
) -> None:
    """Its short form, with workers that do not run, is in tests/proxy/telemetry/test_metrics.py."""
    places = {"DOUBLE": f"http://127.0.0.1:{double.port}"}
    bridge = Bridge(http_home / "many-workers", places, options=["--max-requests", "5"])
    bridge.start()
    try:
        pids: set[int] = set()
        asked = 0
        while len(pids) < WORKERS:
            assert bridge.ask("GET", f"/{asked}").status == 200
            asked += 1
            pids |= {worker.pid for worker in read_all(bridge.state)}
        counted = 'bridge_requests_total{backend="main",route="-",status="2xx"}'
        wait_for(
            lambda: f"{counted} {asked}.0" in scrape.scrape(bridge.state).decode(),
            what="every request of every worker counted",
        )
        files = list((bridge.state / "metrics").iterdir())
        assert len(files) <= 2 * PLACES
        began = time.process_time()
        scrape.scrape(bridge.state)
        spent = time.process_time() - began
        print(f"{asked} requests, {len(pids)} workers: {spent * 1000:.2f} ms of CPU for a scrape")
    finally:
        bridge.stop()
