"""What the shell itself must not do, whatever the modules beside it decide."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from werkzeug.test import EnvironBuilder

from bridge.proxy.front import Front
from bridge.proxy.wsgi.dispatcher import Dispatcher
from tests.proxy.shells.double import BOUND, Backend
from tests.proxy.site import TOP, table

closed = threading.Event()

FORKING = """
import os
from werkzeug.test import Client
from bridge.proxy.wsgi.dispatcher import Dispatcher
from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks
from tests.proxy.site import TOP, table

class Print(Hooks):
    def after_response(self, outcome):
        os.write(1, f"{outcome.request_id}\\n".encode())

ours = table(top=TOP.replace("forge.example", "localhost").replace(":8090", ":1"))
client = Client(Dispatcher(Front(lambda: ours, hooks=[Print()])))
client.get("/", buffered=True)
child = os.fork()
for _ in range(5):
    client.get("/", buffered=True)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_process_gives_its_requests_other_ids() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)
    ids = done.stdout.split()
    assert len(ids) == 11, done.stderr
    assert len(set(ids)) == 11


def streams(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """A handler whose answer does not fit anywhere, and which notes its end."""
    start_response("200 OK", [])
    try:
        while True:
            yield b"x" * 100_000
    finally:
        closed.set()


def refuses(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    """A server that takes no head, as some do for a header or a status without words."""
    raise ValueError("status message was not supplied")


def test_a_head_that_the_server_refuses_takes_no_place_for_good() -> None:
    """Neither one of legacy's, nor a handler's thread."""
    route = f"name: py, path: /py, wsgi: '{__name__}:streams', python: 100%"
    with Backend() as backend:
        ours = table(route, top=TOP.replace(":8090", f":{backend.port}"))
        dispatcher = Dispatcher(Front(lambda: ours), handler_threads=1)
        for path in ("/", "/py") * 3:
            environ = EnvironBuilder(path, base_url="http://forge.example").get_environ()
            closed.clear()
            with pytest.raises(ValueError, match="message"):
                dispatcher(environ, refuses)
            assert path == "/" or closed.wait(BOUND)
        [pool] = [pool for pool in dispatcher.pools.all() if pool.name == "php"]
        assert repr(pool) == "<LegacyPool php: 0 active, 1 idle>"
        assert [server.busy for server in pool.servers.all] == [0]
        assert len(backend.of("/")) == 3
        pool.close()
