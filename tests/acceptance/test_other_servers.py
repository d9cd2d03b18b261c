"""The same application under servers that are not `bridgectl serve`."""

import json
from pathlib import Path

import requests
from werkzeug.test import EnvironBuilder, run_wsgi_app

from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.routing.load import load_text
from bridge.proxy.wsgi.dispatcher import Dispatcher
from stack.bridge import Gunicorn
from stack.php import PhpServer
from stack.waiting import wait_for
from tests.proxy.shells.double import Backend
from tests.proxy.shells.visitor import Visitor, request

ROUTES = """\
version: 1
sites: {{s: {{hosts: ["{address}"], legacy: php}}}}
backends: {{php: {{url: "{legacy}"}}}}
routes: []
"""


def test_stock_gunicorn_serves_it_and_follows_the_file(tmp_path: Path) -> None:
    docroot = tmp_path / "htdocs"
    docroot.mkdir()
    (docroot / "index.php").write_text("<?php echo $_SERVER['REQUEST_URI'];")
    with PhpServer(tmp_path / "php", docroot, router=docroot / "index.php") as php:
        routes, log = tmp_path / "routes.yaml", tmp_path / "access.jsonl"
        env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_ACCESS_LOG": str(log)}
        server = Gunicorn(tmp_path / "gunicorn", "bridge.wsgi:application", env=env)
        text = ROUTES.format(address=server.address, legacy=php.url)
        routes.write_text(text)
        with server:
            assert requests.get(f"{server.url}/a?b=%2F", timeout=10).text == "/a?b=%2F"
            # The line is written after the last byte of the answer.
            wait_for(lambda: log.exists() and log.read_text().endswith("\n"), 5, "the log")
            assert json.loads(log.read_text().splitlines()[-1])["backend"] == "php"
            changed = "response_headers: {set: {X-New: table}}"
            routes.write_text(text.replace("legacy: php}", f"legacy: php, {changed}}}"))

            def new_table_is_live() -> bool:
                return "X-New" in requests.get(f"{server.url}/", timeout=10).headers

            wait_for(new_table_is_live, 5, "the changed table")


def test_stock_gunicorn_passes_on_no_length_that_others_could_read_differently(
    tmp_path: Path,
) -> None:
    """More digits than fit into 64 bits are another number to whoever counts with those."""
    with Backend() as legacy:
        routes = tmp_path / "routes.yaml"
        env = {"BRIDGE_ROUTES": str(routes)}
        server = Gunicorn(tmp_path / "gunicorn", "bridge.wsgi:application", env=env)
        url = f"http://127.0.0.1:{legacy.port}"
        routes.write_text(ROUTES.format(address=server.address, legacy=url))
        with server:
            for length in ("9" * 19, "18446744073709551617", f"{5:021}", "9" * 4000):
                with Visitor((server.host, server.port)) as visitor:
                    line = f"Content-Length: {length}"
                    visitor.send(request("POST", "/", line, host=server.address) + b"hello")
                    assert visitor.answer().status == 400, length
        assert legacy.received == []


class _Keep(Hooks):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def after_response(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_a_server_that_hides_the_raw_target_is_refused_not_guessed_at() -> None:
    table = load_text(
        ROUTES.format(address="localhost", legacy="http://127.0.0.1:9"), Path("routes.yaml")
    )
    kept = _Keep()
    dispatcher = Dispatcher(Front(lambda: table, hooks=[kept]))
    environ = EnvironBuilder("/a%2Fb").get_environ()
    environ.pop("RAW_URI")
    environ.pop("REQUEST_URI")
    environ["SERVER_SOFTWARE"] = "granian"
    body, status, _ = run_wsgi_app(dispatcher, environ, buffered=True)
    assert status.startswith("500")
    assert b"Traceback" not in b"".join(body)
    assert "granian" in kept.outcomes[0].error
    assert "bridgectl serve" in kept.outcomes[0].error
