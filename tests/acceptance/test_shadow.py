"""Visitors of a real `bridgectl serve` notice nothing of a shadow, whatever becomes of that."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.files import is_alive
from bridge.proxy.telemetry import scrape
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.visitors import Visitors
from tests.proxy.shells.double import Backend, plain

pytestmark = pytest.mark.acceptance

PAGE = b"page"
LINES = ("Content-Type: text/plain; charset=utf-8", "Set-Cookie: seen=1; Path=/")
TABLE = """\
version: 1
sites: {s: {hosts: ["@ADDRESS@"], legacy: php}}
backends: {php: {url: "http://127.0.0.1:@PHP@"}}
routes:
  - {name: page, path: /page, handler: "tests.evidence.shadow.handlers:page", python: 0%,
     timeout: 200ms@SHADOW@}
"""
SHADOW = ", shadow: {share: 100%, rate: @RATE@/s}"


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        backend.when("/page", plain("200 OK", *LINES, body=PAGE))
        yield backend


def routes(backend: Backend, rate: int | None = 200) -> str:
    shadow = SHADOW.replace("@RATE@", str(rate)) if rate else ""
    return TABLE.replace("@PHP@", str(backend.port)).replace("@SHADOW@", shadow)


def pids(site: BridgeSite) -> list[int]:
    """The shadows that live."""
    found = (site.state / "shadow").glob("[0-9]*")
    return [pid for path in found if is_alive(pid := int(path.name))]


def compared(site: BridgeSite, kind: str) -> int:
    return scrape.by_two(site.state, scrape.SHADOW).get(("page", kind), 0)


def unharmed(visitors: Visitors) -> None:
    assert visitors.failures == []
    assert {answer.body for answer in visitors.answers} == {PAGE}


def test_the_shadow_comes_with_the_file_and_compares_what_visitors_ask(
    backend: Backend, tmp_path: Path
) -> None:
    with BridgeSite(tmp_path, routes(backend, None), operator=True) as site:
        assert pids(site) == []
        site.write(routes(backend))
        (shadow,) = wait_for(lambda: pids(site), 30, "the shadow")
        with Visitors(site.address, ["/page"]) as visitors:
            wait_for(lambda: compared(site, "same") >= 20, 30, "comparisons")
        unharmed(visitors)
        assert [b.get("Purpose") for b in backend.received if b.get("Purpose")] == []
        site.write(routes(backend, None))
        wait_for(lambda: not is_alive(shadow), 30, "its end")
    assert pids(site) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["hang", "grow", "crash", "compute", "fail"])
def test_nobody_notices_what_handlers_do_in_the_shadow(
    backend: Backend, tmp_path: Path, what: str
) -> None:
    options = ["--shadow-memory", "150"]
    with BridgeSite(tmp_path, routes(backend), options=options, workers=2) as site:
        (first,) = wait_for(lambda: pids(site), 30, "the shadow")
        targets = [f"/page?do={what}", "/page"]
        with Visitors(site.address, targets, targets) as visitors:
            if what in ("hang", "grow", "crash"):
                wait_for(lambda: pids(site) not in ([first], []), 60, "another shadow")
            else:
                wait_for(lambda: compared(site, "same") >= 5, 60, "comparisons")
        unharmed(visitors)


@pytest.mark.slow
def test_nobody_notices_a_shadow_that_is_killed_or_stopped(
    backend: Backend, tmp_path: Path
) -> None:
    """It is killed as soon as it is there, again and again; then it is stopped, and its queue
    and the workers' run full."""
    body = bytes(200_000)
    backend.when("/page", plain(body=body))
    with BridgeSite(tmp_path, routes(backend, 1000), workers=2) as site:
        killed: set[int] = set()
        with Visitors(site.address, ["/page"], ["/page"]) as visitors:
            for _ in range(2):
                (pid,) = wait_for(lambda: set(pids(site)) - killed, 60, "a shadow")
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            (pid,) = wait_for(lambda: set(pids(site)) - killed, 60, "a shadow")
            os.kill(pid, signal.SIGSTOP)

            def full() -> int:
                return scrape.by_two(site.state, scrape.COPIES).get(("page", "full"), 0)

            wait_for(full, 30, "a queue that is full")
            wait_for(lambda: not is_alive(pid), 60, "its end by the parent's hand")
        assert visitors.failures == []
        assert {answer.body for answer in visitors.answers} == {body}
