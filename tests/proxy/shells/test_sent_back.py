"""A flipped route that sends visitors round and round goes back to legacy, where that is wanted."""

from __future__ import annotations

import pytest

from bridge.proxy.telemetry import scrape
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.serving import Bridge


def go_round(bridge: Bridge, path: str) -> list[int]:
    """A visitor follows redirects between `path` and /old until something else comes."""
    statuses, asked, jar = list[int](), path, ""
    for _ in range(20):
        got = bridge.ask("GET", asked, f"Cookie: {jar}", host="python.test")
        statuses.append(got.status)
        jar = next((value.partition(";")[0] for value in got.all("Set-Cookie")), jar)
        if statuses[-1] != 302:
            break
        asked = "/old" if asked == path else path
    return statuses


@pytest.mark.parametrize("name", ["moves", "moves_always"])
def test_the_route_goes_back_to_legacy_after_five_rounds(
    bridge: Bridge, backend: Backend, name: str
) -> None:
    """Also one whose failures legacy must not answer for."""
    path, route = f"/py/{name}", name.replace("_", "-")
    backend.when("/old", plain("302 Found", f"Location: {path}"))
    backend.when(path, plain("200 OK", body=b"legacy has it"))
    assert go_round(bridge, path) == [302] * 10 + [508]
    assert bridge.ask("GET", path, host="python.test").body == b"legacy has it"
    last = bridge.outcomes(path)[-1]
    assert (last["backend"], last["fallback"]) == ("main", "redirect-loop")
    # What had no part in it stays where it is.
    bridge.ask("GET", "/py/text", host="python.test")
    assert bridge.outcomes("/py/text")[-1]["backend"] == "python"
    # And the operator sees both.
    is_open = f'bridge_breaker_open{{cause="redirect-loop",route="{route}"}} 1.0'
    wait_for(lambda: is_open in scrape.scrape(bridge.state).decode(), BOUND, "an open breaker")
    assert scrape.loops(bridge.state)[f"- (main) → {route} (python)"] == 1
