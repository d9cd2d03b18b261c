"""What the demo is made of, without its servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stack.check import AccessLog
from stack.demo import only_one
from stack.errors import StackError, TimedOut
from stack.site import demo_routes
from stack.visitor import Readers, forms_of
from stack.waiting import wait_for, wait_until_there_are

ROUTES = """\
# who answers what
version: 1
sites:
  forge:
    hosts: ["www.example.org"]
    legacy: php
backends:
  php: {url: "http://10.0.0.1"}   # the old machine
routes:
  - name: project
    path: /project/<name>
    handler: examples.forge.consumer.views:project
    python: 0%
"""

PAGE = """
<form action="/search" method="get"><input type="text" name="q"></form>
<form method="post">
<input type="hidden" name="token" value="a&amp;b"><input name="summary" value="&quot;old&quot;">
<textarea name="description">
first
second</textarea>
<select name="section"><option value="web">Web<option value="shells" selected>Shells</select>
<input type="submit" value="Save">
</form>
"""


def test_the_demos_routes_have_its_own_hosts_and_backend(tmp_path: Path) -> None:
    """All else, comments too, stays as in the checkout."""
    source, target = tmp_path / "routes.yaml", tmp_path / "demo.yaml"
    source.write_text(ROUTES)
    demo_routes(source, target, port=8080, php="http://127.0.0.1:9000")
    text = target.read_text()
    assert "127.0.0.1:8080" in text
    assert "url: http://127.0.0.1:9000" in text.replace('"', "")
    assert "# who answers what" in text
    assert "# the old machine" in text
    assert "www.example.org" not in text
    assert source.read_text() == ROUTES


def test_routes_without_the_php_backend_are_refused(tmp_path: Path) -> None:
    """The message names the file."""
    source = tmp_path / "routes.yaml"
    source.write_text("version: 1\n")
    with pytest.raises(StackError, match=r"routes\.yaml cannot be used for the demo"):
        demo_routes(source, tmp_path / "demo.yaml", port=8080, php="http://127.0.0.1:9000")


def test_only_one_demo_runs_at_a_time(tmp_path: Path) -> None:
    """The second one says so."""
    lock = tmp_path / "demo.lock"
    with only_one(lock), pytest.raises(StackError, match="runs already"), only_one(lock):
        pass
    with only_one(lock):
        pass


def test_forms_are_read_as_a_browser_reads_them() -> None:
    """Hidden fields, entities, text areas and selections."""
    search, edit = forms_of(PAGE)
    assert (search.action, search.method, search.fields) == ("/search", "get", {"q": ""})
    assert edit.method == "post"
    assert edit.fields == {
        "token": "a&b",
        "summary": '"old"',
        "description": "first\nsecond",
        "section": "shells",
    }
    assert edit.name_of("hidden") == "token"
    with pytest.raises(StackError, match="no password field"):
        edit.name_of("password")


def test_the_access_log_gives_the_entries_of_one_page(tmp_path: Path) -> None:
    """From a place on, and not the entry that is being written."""
    log = AccessLog(tmp_path / "access.jsonl")
    assert (log.end(), log.entries("/a")) == (0, [])
    entry = {"path": "/a", "backend": "php"}
    log.file.write_text(json.dumps(entry) + "\n")
    since = log.end()
    with log.file.open("a") as stream:
        stream.write(json.dumps({"path": "/b"}) + "\n" + json.dumps(entry) + "\n" + '{"path": ')
    assert len(log.entries("/a")) == 2
    assert log.entries("/a", since) == [entry]


@pytest.fixture
def fickle_url() -> Iterator[str]:
    """A server whose every third answer is another page."""
    count = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = b"other" if next(count) % 3 == 2 else b"same"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page"
        server.shutdown()
        thread.join()


def test_readers_notice_every_change_of_the_page(fickle_url: str) -> None:
    """No wrong answer goes unseen."""
    with Readers(fickle_url, b"same", threads=1) as readers:
        wait_for(lambda: readers.requests >= 9, what="nine requests")
    assert len(readers.failures) == readers.requests // 3
    assert "another page: 5 bytes: b'other'" in readers.failures[0]


def test_waiting_has_a_bound_and_names_what_it_waited_for() -> None:
    """The error says what did not come, and the last value."""
    with pytest.raises(TimedOut, match=r"waited 0 s in vain for: the moon \(last value: None\)"):
        wait_for(lambda: None, 0, "the moon")


def test_a_number_may_take_its_time_as_long_as_it_grows() -> None:
    growing = iter([1, 2, 2, 3])

    wait_until_there_are(3, lambda: next(growing), "moons", stalled=5, interval=0)

    with pytest.raises(TimedOut, match="moons: 2 of 1,000, and none more in 0 s"):
        wait_until_there_are(1000, lambda: 2, "moons", stalled=0, interval=0)
