"""PHP that is not told of https: what its answers give away, and what `bridgectl doctor` says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.https import Answer, judge, look
from bridge.proxy.routing.load import load
from stack.php import PhpServer
from tests.acceptance.bridge_site import run_bridge

URL = "https://www.example.org/start?a=b"


@pytest.mark.parametrize(
    "location", [URL, "/start?a=b", "?a=b", "https://www.example.org:443/start?a=b#x"]
)
def test_a_redirect_to_what_was_asked_for_has_no_end(location: str) -> None:
    state, says = judge(Answer(URL, location)) or ("", "")
    assert state == "bad"
    assert URL in says


@pytest.mark.parametrize(
    "location",
    [
        "https://www.example.org/start",
        "https://www.example.org/start?a=c",
        "/start/?a=b",
        "https://example.org/start?a=b",
        "http://elsewhere.example/start?a=b",
        "https://www.example.org:8443/start?a=b",
    ],
)
def test_a_redirect_to_something_else_is_none_of_ours(location: str) -> None:
    assert judge(Answer(URL, location)) is None


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (b'<link href="http://www.example.org/style.css">', True),
        (b"<form action=http://www.example.org/save>", True),
        (b"<IMG SRC = 'http://www.example.org\"'>", True),
        (b'<script src="https://www.example.org/a.js">', False),
        (b'<a href="//www.example.org/a">', False),
        (b'<a href="http://www.example.org.evil.example/">', False),
        (b'<a href="http://www.example.org:8080/">', False),
        (b"<p>We were at http://www.example.org/ since 1999</p>", False),
        (b"\xff\xfe", False),
        (b"", False),
    ],
)
def test_links_by_http_to_the_site_itself_are_seen(page: bytes, found: bool) -> None:
    assert (judge(Answer(URL, page=page)) is not None) is found


ROUTES = """\
version: 1
sites: {{s: {{hosts: [www.example.org], legacy: php}}}}
backends: {{php: {{url: "{url}"{more}}}}}
routes: []
"""
TOLD = "if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') $_SERVER['HTTPS'] = 'on';"
FORCES = "if (empty($_SERVER['HTTPS'])) { header('Location: https://www.example.org'."
FORCES += "$_SERVER['REQUEST_URI'], true, 301); exit; } echo 'a page';"
LINKS = "$s = empty($_SERVER['HTTPS']) ? 'http' : 'https';"
LINKS += "if ($_SERVER['REQUEST_URI'] === '/') { header('Location: /start'); exit; }"
LINKS += "echo \"<link href='$s://www.example.org/style.css'>\";"


@pytest.fixture(scope="module")
def php(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhpServer]:
    folder = tmp_path_factory.mktemp("php")
    docroot = folder / "htdocs"
    docroot.mkdir()
    (docroot / "index.php").touch()
    with PhpServer(folder, docroot, router=docroot / "index.php", workers=1) as server:
        yield server


@pytest.mark.parametrize(
    ("script", "more", "state"),
    [
        (FORCES, "", "bad"),
        (TOLD + FORCES, "", "ok"),
        (TOLD + FORCES, ", request_headers: {remove: [X-Forwarded-Proto]}", "bad"),
        (LINKS, "", "note"),
        (TOLD + LINKS, "", "ok"),
    ],
)
def test_a_site_that_is_not_told_is_seen(
    tmp_path: Path, php: PhpServer, script: str, more: str, state: str
) -> None:
    """In real PHP, with the line that docs/deploy.md gives and without it."""
    (php.docroot / "index.php").write_text(f"<?php {script}")
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES.format(url=php.url, more=more))
    table = load(routes)
    found = list(look("php", table.file.backends["php"], php.url, table))
    assert [one.state for one in found] == ([] if state == "ok" else [state])
    assert all("asked by https" in one.says and "HTTPS" in one.do for one in found)


@pytest.mark.parametrize("hosts", ["'*'", "'*:18080'", "'*', www.example.org"])
def test_a_site_with_any_host_is_asked_too(tmp_path: Path, php: PhpServer, hosts: str) -> None:
    forces = FORCES.replace("'Location: https://www.example.org'", "'Location: https://'.HOST")
    forces = f"define('HOST', $_SERVER['HTTP_HOST']); {forces}"
    (php.docroot / "index.php").write_text(f"<?php {forces}")
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES.format(url=php.url, more="").replace("www.example.org", hosts))
    table = load(routes)
    (found,) = look("php", table.file.backends["php"], php.url, table)
    assert found.state == "bad"


def test_doctor_says_once_what_is_the_same_of_several_servers(
    tmp_path: Path, php: PhpServer
) -> None:
    """And of which servers; that each of them answers is said of each."""
    (php.docroot / "index.php").write_text(f"<?php {FORCES}")
    second = php.url.replace("127.0.0.1", "localhost")
    routes = tmp_path / "routes.yaml"
    text = ROUTES.format(url="@", more="").replace('"@"', f'["{php.url}", "{second}"]')
    routes.write_text(text)
    done = run_bridge("doctor", "-o", "json", env={"BRIDGE_ROUTES": str(routes)})
    found = [one for one in json.loads(done.stdout) if one["what"] == "legacy php"]
    (told,) = (one for one in found if one["state"] != "ok")
    assert "without end" in told["says"]
    assert told["where"] == f"{php.url}, {second}"
    assert [one["where"] for one in found if one["state"] == "ok"] == [php.url, second]


def test_doctor_says_so(tmp_path: Path, php: PhpServer) -> None:
    (php.docroot / "index.php").write_text(f"<?php {FORCES}")
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES.format(url=php.url, more=""))
    done = run_bridge("doctor", "-o", "json", env={"BRIDGE_ROUTES": str(routes)})
    (bad,) = (one for one in json.loads(done.stdout) if one["state"] == "bad")
    assert (bad["what"], done.returncode) == ("legacy php", 1)
    assert "without end" in bad["says"]
