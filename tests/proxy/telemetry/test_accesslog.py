"""What is logged: enough to find the fault, nothing that is a secret."""

import json
import os
import socket
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import structlog.testing
from werkzeug.test import Client

from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.telemetry.accesslog import AccessLog
from bridge.proxy.wsgi.dispatcher import Dispatcher
from tests.proxy.site import TOP, head, table

FAILING = "tests.proxy.telemetry.test_accesslog:failing"


def failing(request: object) -> object:
    """A handler with a secret in a local variable."""
    password = "hunter" + "2"
    raise RuntimeError(f"no answer for {len(password)} characters")


def test_a_failed_handler_is_logged_without_its_local_variables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()  # as under a server where nobody configured the log
    top = TOP.replace("forge.example", "localhost").replace(":8090", ":1")
    ours = table(f'name: x, path: /x, handler: "{FAILING}", python: 100%', top=top)
    Client(Dispatcher(Front(lambda: ours))).get("/x")
    written = capsys.readouterr()
    said = written.out + written.err
    assert "no answer for 7 characters" in said
    assert Path(__file__).name in said
    assert "hunter2" not in said


def test_a_full_disk_costs_lines_of_the_access_log_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """/dev/full takes nothing, as a full disk. It is said once, not for every visitor."""
    structlog.reset_defaults()
    log = AccessLog("/dev/full")
    for _ in range(100):
        log.after_response(Outcome("0123456789abcdef", 1, "abc", "GET"))
    log.close()
    written = capsys.readouterr()
    said = written.out + written.err
    assert said.count("cannot write the access log") == 1
    assert "No space left on device" in said


@pytest.mark.parametrize(
    ("aborted", "by"),
    [
        ("visitor left", "visitor"),
        ("visitor: the request body ends 3 bytes early", "visitor"),
        ("bridge: the server has stopped", "bridge"),
        ("main: ended 5 bytes early", "backend"),
        ("handler: body ended 5 bytes early", "backend"),
    ],
)
def test_an_answer_that_was_cut_short_has_one_to_blame(aborted: str, by: str) -> None:
    assert Outcome("", 1, "", aborted=aborted).aborted_by == by


def test_an_opened_breaker_is_logged_with_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said = structlog.testing.CapturingLogger()
    monkeypatch.setattr("bridge.proxy.front.log", said)
    ours = table(f'name: x, path: /x, handler: "{FAILING}", python: 100%')
    front = Front(lambda: ours)
    for _ in range(5):
        front.python_did("x", well=False)
    (call,) = said.calls
    assert call.args == ("Python side left alone for a while",)
    assert call.kwargs == {"route": "x", "seconds": 30.0, "opened": 1}


def test_a_proxy_that_nobody_trusts_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger from afar invents does not hide a proxy nearby, which comes later."""
    said = structlog.testing.CapturingLogger()
    monkeypatch.setattr("bridge.proxy.front.log", said)
    front = Front(lambda: ours)
    ours = table(top=TOP.replace("version: 1", "version: 1\ntrusted_proxies: [10.0.0.5]"))
    plain = head()
    told = head(X_Forwarded_For="1.2.3.4")
    for asked, peer in ((plain, "10.0.0.1"), (told, "10.0.0.5"), (told, "8.8.8.8")):
        front.recognise(ours, replace(asked, peer=peer))
    for peer in ("10.0.0.1", "10.0.0.1", "9.9.9.9", ""):
        front.recognise(ours, replace(told, peer=peer))
    assert [call.kwargs["peer"] for call in said.calls] == ["8.8.8.8", "10.0.0.1"]
    assert all("trusted_proxies" in call.args[0] for call in said.calls)


def test_a_preview_cookie_that_nobody_can_verify_is_in_the_log() -> None:
    class Seen(Hooks):
        def after_response(self, outcome: Outcome) -> None:
            details.append(outcome.detail)

    details: list[str] = []
    top = TOP.replace("forge.example", "localhost").replace(":8090", ":1")
    ours = table(f'name: x, path: /x, handler: "{FAILING}", python: 0%', top=top)
    for secret in ("", "a secret"):
        client = Client(Dispatcher(Front(lambda: ours, secret=secret, hooks=[Seen()])))
        client.set_cookie("bridge_preview", "x")
        client.get("/x", buffered=True)
    assert details == ["0%; preview cookie ignored: BRIDGE_SECRET is not set", "0%"]


def test_the_access_log_names_the_backend_that_gave_no_answer(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.after_response(Outcome("id", 1, "abc", "GET", error="connect: refused", legacy="php"))
    log.after_response(Outcome("id", 1, "abc", "GET", backend="php", error="x", legacy="php"))
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["backend"], line.get("legacy")) for line in lines] == [
        ("bridge", "php"),
        ("php", None),
    ]


def test_the_access_log_does_not_remember_what_is_long() -> None:
    """Hosts and methods are what visitors make them."""
    log = AccessLog("/dev/null")
    tracemalloc.start()
    try:
        for n in range(1000):
            log.after_response(Outcome("id", 1, "abc", "GET", host=f"{n}{'a' * 8000}"))
            log.after_response(Outcome("id", 1, "abc", f"{n}{'A' * 8000}"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        log.close()
    assert held < 500_000


def test_a_line_of_the_log_is_one_write() -> None:
    """Also unbuffered, as in containers: lines of several workers must not run together."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = "from bridge import logs; import structlog; logs.configure()\n"
    program += "structlog.get_logger().error('full', what='disk')"
    with ours, theirs:
        ours.settimeout(20)
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        subprocess.run([sys.executable, "-c", program], stderr=theirs, env=env, check=True)
        line = ours.recv(10_000)
    assert line.endswith(b"\n")
    assert json.loads(line)["what"] == "disk"
