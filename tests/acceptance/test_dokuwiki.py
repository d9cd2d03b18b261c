"""DokuWiki behind the bridge behaves as DokuWiki: nobody can tell, to the byte.

The folder `dokuwiki` holds requests as browsers and scripts send them, byte for byte. All are
asked directly, directly again, and through `bridge serve`; see `acceptance.likeness`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from acceptance.bridge_site import BridgeSite
from acceptance.likeness import Likeness
from acceptance.raw_http import Answer, ask, request
from stack.dokuwiki import DokuWiki

pytestmark = pytest.mark.acceptance

RECORDED = sorted((Path(__file__).parent / "dokuwiki").glob("*.http"))
HOST = "wiki.example.org"

ROUTES = """\
version: 1
sites:
  wiki: {hosts: [wiki.example.org], legacy: wiki}
backends:
  wiki: {url: "@WIKI@"}
"""


@pytest.fixture(scope="module")
def wiki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DokuWiki]:
    with DokuWiki(tmp_path_factory.mktemp("dokuwiki")) as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, wiki: DokuWiki) -> Iterator[BridgeSite]:
    """The bridge in front of the wiki, without any route."""
    routes = ROUTES.replace("@WIKI@", wiki.url)
    with BridgeSite(tmp_path_factory.mktemp("bridge"), routes) as site:
        yield site


@pytest.fixture(scope="module")
def direct(wiki: DokuWiki) -> dict[str, Likeness]:
    """Two direct answers to each request. A first round lets the wiki fill its caches."""
    rounds = [{file.stem: ask(wiki.address, file.read_bytes()) for file in RECORDED} for _ in "123"]
    return {name: Likeness(rounds[1][name], rounds[2][name]) for name in rounds[0]}


def test_the_recorded_requests_are_many() -> None:
    assert len(RECORDED) >= 40


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_a_recorded_request_is_answered_as_directly(
    site: BridgeSite, direct: dict[str, Likeness], file: Path
) -> None:
    answer = ask(site.address, file.read_bytes())
    assert direct[file.stem].differences(answer) == []
