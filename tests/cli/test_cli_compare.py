"""`bridgectl compare`: what it asks, what it says, and where it goes on."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.wrappers import Request, Response

from stack.waiting import wait_for
from tests.proxy.shells.double import Backend, plain

HERE = "tests.cli.test_cli_compare"
HTML = "Content-Type: text/html; charset=utf-8"


def noisy_page() -> bytes:
    number = secrets.randbelow(9000) + 1000
    return f'<!DOCTYPE html><title>noisy</title><i id="visits">{number}</i>'.encode()


def page(request: Request, name: str) -> Response:
    """As legacy has it, but for one project."""
    if name == "noisy":
        return Response(noisy_page(), mimetype="text/html")
    if name == "broken":
        raise RuntimeError("no database")
    title = "Vim?" if name == "vim" else name
    return Response(f"<!DOCTYPE html><title>{name}</title><p>{title}</p>", mimetype="text/html")


@pytest.fixture(scope="module")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def legacy(double: Backend) -> Backend:
    double.clear()
    for name in ("bash", "vim", *(f"p{number}" for number in range(30))):
        body = f"<!DOCTYPE html><title>{name}</title><p>{name}</p>".encode()
        double.when(f"/p/{name}", plain("200 OK", HTML, body=body))
    return double


@pytest.fixture
def routes(legacy: Backend, tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(
        "version: 1\nsites: {forge: {hosts: [forge.example], legacy: php}}\n"
        f'backends: {{php: {{url: "http://127.0.0.1:{legacy.port}"}}}}\n'
        "compare: {ignore: [{header: X-Never}]}\n"
        f'routes: [{{name: page, path: "/p/<name>", handler: "{HERE}:page", python: 0%}},\n'
        '  {name: old, path: "/old"}]\n'
    )
    return path


def command(*words: str, routes: Path) -> tuple[list[str], dict[str, str]]:
    env = {**os.environ, "BRIDGE_ROUTES": str(routes), "PYTHONPATH": os.getcwd()}
    return [sys.executable, "-m", "bridge", "compare", *words], env


def compare(*words: str, routes: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    words_, env = command(*words, routes=routes)
    done = subprocess.run(words_, env=env, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode == expect, done.stderr + done.stdout
    return done


def log_of(tmp_path: Path, *targets: str, method: str = "GET") -> Path:
    path = tmp_path / "access.log"
    lines = [
        f'192.0.2.7 - - [17/May/2026:10:05:03 +0000] "{method} {target} HTTP/1.1" 200 9 "-" "-"\n'
        for target in targets
    ]
    with path.open("a") as file:
        file.writelines(lines)
    return path


def test_pages_that_are_the_same_are_the_answer_yes(routes: Path, legacy: Backend) -> None:
    done = compare("/p/bash", routes=routes)
    assert "page" in done.stdout
    assert "the rule header: x-never of routes.yaml hid nothing" in done.stdout
    assert len(legacy.received) == 1


def test_one_that_is_different_is_named_with_its_place(routes: Path) -> None:
    done = compare("/p/bash", "/p/vim", "-o", "json", routes=routes, expect=1)
    found = json.loads(done.stdout)
    (difference,) = found["differences"]
    assert difference["place"] == "html > body > p"
    assert (difference["legacy"], difference["python"]) == ("vim", "Vim?")
    assert difference["example"] == "/p/vim"
    (route,) = found["routes"]
    assert (route["route"], route["compared"], route["same"], route["different"]) == (
        "page", 2, 1, 1,
    )  # fmt: skip
    assert difference["id"]


def test_a_handler_that_fails_is_different_and_its_traceback_is_said_once(routes: Path) -> None:
    words, env = command("/p/broken", "/p/broken?a=1", "-o", "json", routes=routes)
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    (difference,) = json.loads(done.stdout)["differences"]
    assert (difference["place"], difference["what"]) == ("answer", "python-error")
    assert difference["python"] == "python-error: RuntimeError: no database"
    assert done.stderr.count("Traceback") == 1


def test_a_log_is_asked_for_its_gets_each_address_once(
    routes: Path, legacy: Backend, tmp_path: Path
) -> None:
    log = log_of(tmp_path, "/p/bash", "/p/bash", "/p/bash?x=1", "/old", "/other")
    log_of(tmp_path, "/p/p1", method="POST")
    done = compare("--log", str(log), "--rate", "0", "-o", "json", routes=routes)
    found = json.loads(done.stdout)
    assert sorted(one.target for one in legacy.received) == [b"/p/bash", b"/p/bash?x=1"]
    assert all(one.method == "GET" for one in legacy.received)
    assert found["left"] == {
        "POST: only a GET is asked again": 1,
        "of no route with a Python side": 2,
    }


def test_a_sample_is_the_same_each_time(routes: Path, legacy: Backend, tmp_path: Path) -> None:
    log = log_of(tmp_path, *(f"/p/p{number}" for number in range(30)))
    words = ("--log", str(log), "--sample", "7", "--rate", "0")
    compare(*words, routes=routes)
    first = {one.target for one in legacy.received}
    legacy.received.clear()
    compare(*words, routes=routes)
    assert len(first) == 7
    assert {one.target for one in legacy.received} == first


def test_an_identity_can_be_lent(routes: Path, legacy: Backend) -> None:
    compare("/p/bash", "--cookie", "sid=1", "--cookie", "b=2", "--header", "X-A: x", routes=routes)
    (received,) = legacy.received
    assert received.get("Cookie") == "sid=1; b=2"
    assert received.get("X-A") == "x"


def test_a_run_that_was_stopped_goes_on(routes: Path, legacy: Backend, tmp_path: Path) -> None:
    log = log_of(tmp_path, *(f"/p/p{number}" for number in range(30)))
    words = ("--log", str(log), "--rate", "20/s", "--concurrency", "1")
    words_, env = command(*words, routes=routes)
    with subprocess.Popen(words_, env=env, stdout=-1, stderr=-1, text=True) as running:
        wait_for(lambda: len(legacy.received) >= 3, what="some requests")
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "give the same command again" in said
    asked = len(legacy.received)
    assert asked < 30
    compare(*words, routes=routes)
    assert len(legacy.received) == 30
    assert len({one.target for one in legacy.received}) == 30
    compare(*words, routes=routes)  # that was all: it begins anew
    assert len(legacy.received) == 60


def test_rules_are_proposed_for_what_was_noise_and_hide_it(routes: Path, legacy: Backend) -> None:
    legacy.when("/p/noisy", lambda call: call.send(plain("200 OK", HTML, body=noisy_page())))
    found = json.loads(compare("/p/noisy", "--suggest", "-o", "json", routes=routes).stdout)
    assert found["routes"][0]["noise"] == 1
    (rule,) = found["suggested"]
    routes.write_text(routes.read_text().replace("{header: X-Never}", json.dumps(rule)))
    legacy.received.clear()
    found = json.loads(compare("/p/noisy", "-o", "json", routes=routes).stdout)
    assert found["routes"][0]["same"] == 1
    assert found["unused_rules"] == []
    assert len(legacy.received) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name addresses, or a log"),
        (("/p/bash", "--log", "x"), "name addresses, or a log"),
        (("nothing", "/p/bash"), "no route `nothing` with a Python side"),
        (("/p/bash", "--rate", "fast"), "is no rate above zero"),
        (("/p/bash", "--header", "X"), "write 'Name: value'"),
        (("/p/bash", "--cookie", "X"), "write name=value"),
    ],
)
def test_wrong_usage_is_said(routes: Path, words: tuple[str, ...], says: str) -> None:
    assert says in compare(*words, routes=routes, expect=2).stderr


def test_an_address_without_a_python_side_is_said(routes: Path) -> None:
    done = compare("/old", routes=routes, expect=1)
    assert "of no route with a Python side" in done.stderr
    assert "bridgectl explain GET /old" in done.stderr


def test_a_log_with_nothing_to_compare_is_said(routes: Path, tmp_path: Path) -> None:
    done = compare("--log", str(log_of(tmp_path, "/other")), routes=routes, expect=1)
    assert "nothing to compare: 1 of no route with a Python side" in done.stderr


def test_where_nothing_was_compared_the_answer_is_no(routes: Path, legacy: Backend) -> None:
    legacy.when("/p/bash", plain("503 Service Unavailable"))
    done = compare("/p/bash", routes=routes, expect=1)
    assert "nothing was compared" in done.stderr
    assert "legacy failed: it answered 503" in done.stdout


def test_what_is_shown_has_no_secrets(routes: Path, legacy: Backend) -> None:
    lines = (HTML, "Set-Cookie: sid=5ecretSession123; Path=/")
    body = b"<!DOCTYPE html><title>vim</title><p>vim 5ecretSession123</p>"
    legacy.when("/p/vim", plain("200 OK", *lines, body=body))
    for words in ((), ("-o", "json")):
        done = compare("/p/vim?token=t0kenOfTheUrl", *words, routes=routes, expect=1)
        assert "cookie sid" in done.stdout
        assert "5ecretSession123" not in done.stdout
        assert "t0kenOfTheUrl" not in done.stdout
