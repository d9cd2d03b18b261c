"""DokuWiki compared with itself: what a real program answers in many ways is not called different.

The Python side is a handler that fetches the same page of the same wiki. Every request that the
folder `dokuwiki` holds as a GET is a line of the log.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from bridge.evidence.answers import Kind
from stack.dokuwiki import DokuWiki
from tests.acceptance.raw_http import ask

pytestmark = pytest.mark.acceptance

RECORDED = sorted((Path(__file__).parent / "dokuwiki").glob("*.http"))
HOST = "wiki.example.org"
HERE = "tests.acceptance.test_compare_dokuwiki"

ROUTES = f"""\
version: 1
sites:
  wiki: {{hosts: [{HOST}], legacy: wiki}}
backends:
  wiki: {{url: "@WIKI@"}}
routes:
  - {{name: front, path: /, wsgi: "{HERE}:same", python: 0%}}
  - {{name: rest, path: "/<path:rest>", wsgi: "{HERE}:same", python: 0%}}
"""


def same(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The page of the wiki itself."""
    target = environ["RAW_URI"]
    names = {key[5:].replace("_", "-").title(): key for key in environ if key.startswith("HTTP_")}
    headers = {name: environ[key] for name, key in names.items()}
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["WIKI_PORT"]), timeout=30)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    hop = ("connection", "transfer-encoding", "keep-alive")
    given = [(name, value) for name, value in answer.getheaders() if name.lower() not in hop]
    body = answer.read()
    if damage := os.environ.get("WIKI_DAMAGE"):
        old, new = (text.encode() for text in damage.split("|"))
        body = body.replace(old, new)
        given = [(name, value) for name, value in given if name.lower() != "content-length"]
    start_response(f"{answer.status} {answer.reason}", given)
    return [body]


@pytest.fixture(scope="module")
def wiki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DokuWiki]:
    with DokuWiki(tmp_path_factory.mktemp("dokuwiki")) as wiki:
        yield wiki


def gets() -> list[tuple[str, bytes]]:
    """Target and bytes of the recorded GETs that a log line can hold."""
    found = []
    for file in RECORDED:
        raw = file.read_bytes()
        method, target, *_ = raw.partition(b"\r\n")[0].split(b" ")
        if method == b"GET" and target.startswith(b"/") and target.isascii():
            found.append((target.decode(), raw))
    return found


def compare(wiki: DokuWiki, tmp_path: Path, **more: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what was found for all that is recorded."""
    routes, log = tmp_path / "routes.yaml", tmp_path / "access.log"
    routes.write_text(ROUTES.replace("@WIKI@", wiki.url), encoding="utf-8")
    recorded = gets()
    for _, raw in recorded:
        ask(f"127.0.0.1:{wiki.port}", raw)  # the wiki fills its caches
    lines = [
        f'192.0.2.7 - - [17/May/2026:10:05:03 +0000] "GET {target} HTTP/1.1" 200 99 "-" "Mozilla"\n'
        for target, _ in recorded
    ]
    log.write_text("".join(lines), encoding="utf-8")
    env = {**os.environ, "BRIDGE_ROUTES": str(routes), "WIKI_PORT": str(wiki.port), **more}
    words = ("compare", "--log", str(log), "--rate", "0", "-o", "json")
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *words],
        env=env, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_of_it_is_different(wiki: DokuWiki, tmp_path: Path) -> None:
    code, found = compare(wiki, tmp_path)
    assert (code, found["differences"]) == (0, [])
    kinds = {kind: sum(route[kind] for route in found["routes"]) for kind in Kind}
    targets = {target for target, _ in gets()}
    assert len(targets) > 50
    # What two programs could read in two ways is legacy's, whatever the routes say.
    assert sum(kinds.values()) + sum(found["left"].values()) == len(targets)
    assert kinds[Kind.SAME] + kinds[Kind.NOISE] >= 0.9 * len(targets), kinds


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        ("<title>|<title>A ", "title"),
        ('name="sectok" value="|name="sectok" value="x', "input @value"),
        ('<div class="level1">|<div class="level2">', "div @class"),
    ],
)
def test_a_damage_is_found_among_all_that_noise(
    wiki: DokuWiki, tmp_path: Path, damage: str, place: str
) -> None:
    code, found = compare(wiki, tmp_path, WIKI_DAMAGE=damage)
    assert code == 1
    groups = {difference["place"] for difference in found["differences"]}
    # Feeds and scripts have some of it, too; these are compared by lines.
    assert any(group.endswith(place) for group in groups), groups
    assert all(group.endswith(place) or group == "line" for group in groups), groups
