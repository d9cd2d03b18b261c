"""The bridge inside Apache as it is shipped: processes, threads, TLS, and their replacement.

What a single process answers is tested in tests/proxy/shells, whose fixture `engine` has mod_wsgi.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from stack.waiting import wait_for
from tests.acceptance.bridge_site import run_bridge
from tests.certificate import make_certificate
from tests.deploy.mod_wsgi import ModWsgi
from tests.installed import skip_if_missing
from tests.proxy.shells.double import Backend

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

ROUTES = """\
version: 1
sites:
  s: {{hosts: ["127.0.0.1:*"], legacy: php}}
backends:
  php: {{url: "http://127.0.0.1:{port}"}}
routes:
  - {{name: seen, path: /seen, handler: "tests.acceptance.apps.handlers:seen", python: 100%}}
  - {{name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: 100%}}
"""


@pytest.fixture(scope="module")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def apache(tmp_path: Path, double: Backend) -> Iterator[ModWsgi]:
    """Four processes, each of which ends after 50 requests instead of 5,000."""
    (tmp_path / "routes.yaml").write_text(ROUTES.format(port=double.port))
    certificate = make_certificate(tmp_path)
    server = ModWsgi(tmp_path, env={}, certificate=certificate, options={"maximum-requests": "50"})
    with skip_if_missing(server):
        yield server


def _get(apache: ModWsgi, path: str) -> requests.Response:
    certificate = apache.site / "site.crt"
    return requests.get(f"https://{apache.address}{path}", verify=str(certificate), timeout=30)


def test_every_request_is_answered_while_processes_are_replaced(apache: ModWsgi) -> None:
    with ThreadPoolExecutor(8) as visitors:
        answers = list(visitors.map(lambda _: _get(apache, "/hello"), range(800)))
    assert {(got.status_code, got.text) for got in answers} == {(200, "python\n")}
    processes = {got.headers["X-Pid"] for got in answers}
    assert len(processes) > 4


def test_handlers_and_legacy_hear_who_came_and_how(apache: ModWsgi, double: Backend) -> None:
    """Apache ends TLS itself here; nobody in front is believed."""
    told = json.loads(_get(apache, "/seen").content)
    assert told == {
        "url": f"https://{apache.address}/seen",
        "client": "127.0.0.1",
        "secure": True,
    }
    double.clear()
    assert _get(apache, "/page").status_code == 200
    assert double.only().all("X-Forwarded-Proto") == ["https"]


def test_a_flip_is_live_in_every_process(apache: ModWsgi) -> None:
    env = {
        "BRIDGE_ROUTES": str(apache.site / "routes.yaml"),
        "BRIDGE_STATE_DIR": str(apache.site / ".bridge"),
    }
    assert _get(apache, "/hello").text == "python\n"
    assert run_bridge("flip", "hello", "0%", "--why", "back", env=env).returncode == 0

    def legacy_answers() -> bool:
        with ThreadPoolExecutor(8) as visitors:
            answers = list(visitors.map(lambda _: _get(apache, "/hello").text, range(32)))
        return set(answers) == {"ok"}

    wait_for(legacy_answers, 10, "the flip in every process")
