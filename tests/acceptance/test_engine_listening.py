"""How visitors reach the engine: TLS, unix sockets, sockets of systemd, old and odd visitors."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.proxy.telemetry.workers import read_all
from stack.bridge import ActivatedServe
from stack.php import PhpServer
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite, run_bridge
from tests.acceptance.raw_http import RawConnection, ask, request
from tests.certificate import make_certificate

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - {name: seen, path: /seen, handler: "tests.acceptance.apps.handlers:seen", python: 100%}
  - {name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: 100%}
"""


def routes(php: PhpServer) -> str:
    return ROUTES.replace("@PHP@", php.url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, php: PhpServer, certificate: tuple[Path, Path]
) -> Iterator[BridgeSite]:
    """A site that speaks TLS."""
    certfile, keyfile = map(str, certificate)
    with BridgeSite(
        tmp_path_factory.mktemp("tls"),
        routes(php),
        options=["--certfile", certfile, "--keyfile", keyfile],
    ) as site:
        yield site


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, php: PhpServer) -> Iterator[BridgeSite]:
    """A site at a port and at a unix socket."""
    folder = tmp_path_factory.mktemp("plain")
    options = ["--bind", f"unix:{folder / 'socket'}"]
    with BridgeSite(folder, routes(php), options=options) as site:
        yield site


def trust(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


# --- TLS


def test_visitors_are_answered_over_tls_and_keep_their_connection(
    secure: BridgeSite, certificate: tuple[Path, Path]
) -> None:
    connection = http.client.HTTPSConnection(secure.address, context=trust(certificate), timeout=20)
    body = bytes(range(256)) * 4096
    for _ in range(2):
        connection.request("GET", "/seen")
        told = json.loads(connection.getresponse().read())
        assert told == {
            "url": f"https://{secure.address}/seen",
            "client": "127.0.0.1",
            "secure": True,
        }
        sock = connection.sock
        connection.request("POST", "/any/page", body)
        answer = connection.getresponse().read()
        assert answer.partition(b"body=")[2] == body + b"\n"
        assert connection.sock is sock
    connection.close()


def test_plain_http_at_a_tls_port_ends_the_connection_and_nothing_else(
    secure: BridgeSite, certificate: tuple[Path, Path]
) -> None:
    with RawConnection(secure.address) as visitor:
        visitor.send(request("GET", "/hello", secure.address))
        try:
            seen = visitor.some()
        except ConnectionResetError:
            seen = b""
        assert not seen.startswith(b"HTTP/")
    with RawConnection(secure.address, tls=trust(certificate)) as visitor:
        visitor.send(request("GET", "/hello", secure.address))
        assert visitor.answer().body == b"python\n"


def test_over_tls_a_connection_that_is_not_kept_ends_cleanly(
    secure: BridgeSite, certificate: tuple[Path, Path]
) -> None:
    with RawConnection(secure.address, tls=trust(certificate)) as visitor:
        visitor.send(request("GET", "/hello", secure.address, {"Connection": "close"}))
        assert visitor.answer().body == b"python\n"
        assert visitor.ended()


def test_sighup_takes_another_certificate_and_keeps_it_when_the_next_is_broken(
    tmp_path: Path, php: PhpServer
) -> None:
    first = make_certificate(tmp_path)
    old = trust(first)
    options = ["--certfile", str(first[0]), "--keyfile", str(first[1])]
    with BridgeSite(tmp_path / "site", routes(php), options=options) as site:
        with RawConnection(site.address, tls=old) as visitor:
            new = trust(make_certificate(tmp_path))
            site.server.signal(signal.SIGHUP)
            wait_for(lambda: "read anew" in site.server.log_text(), what="the new certificate")
            visitor.send(request("GET", "/hello", site.address))
            assert visitor.answer().body == b"python\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            RawConnection(site.address, tls=old)
        first[0].write_text("no certificate", encoding="ascii")
        site.server.signal(signal.SIGHUP)
        wait_for(lambda: "stays as it was" in site.server.log_text(), what="the refusal")
        with RawConnection(site.address, tls=new) as visitor:
            visitor.send(request("GET", "/hello", site.address))
            assert visitor.answer().body == b"python\n"


def test_a_certificate_with_another_ones_key_leaves_the_old_pair_in_use(
    tmp_path: Path, php: PhpServer, certificate: tuple[Path, Path]
) -> None:
    """As between the two steps in which a new pair is put in place."""
    certfile, keyfile = make_certificate(tmp_path)
    old = trust((certfile, keyfile))
    options = ["--certfile", str(certfile), "--keyfile", str(keyfile)]
    with BridgeSite(tmp_path / "site", routes(php), options=options) as site:
        RawConnection(site.address, tls=old).close()  # it serves: the pair is read
        certfile.write_bytes(certificate[0].read_bytes())
        site.server.signal(signal.SIGHUP)
        wait_for(lambda: "stays as it was" in site.server.log_text(), what="the refusal")
        with RawConnection(site.address, tls=old) as visitor:
            visitor.send(request("GET", "/hello", site.address))
            assert visitor.answer().body == b"python\n"


def test_a_certificate_that_cannot_be_used_is_said_plainly(
    tmp_path: Path, php: PhpServer, certificate: tuple[Path, Path]
) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text(routes(php).replace("@ADDRESS@", "localhost"), encoding="utf-8")
    env = {"BRIDGE_ROUTES": str(routes_file), "BRIDGE_STATE_DIR": str(tmp_path / "state")}
    missing, no_pem = tmp_path / "missing.crt", tmp_path / "no.pem"
    no_pem.write_text("no certificate", encoding="ascii")
    for words, reason, code in (
        (["--certfile", str(missing)], "No such file", 1),
        (["--certfile", str(no_pem)], "must be PEM", 1),
        (["--keyfile", str(certificate[1])], "--keyfile needs --certfile", 2),
    ):
        done = run_bridge("serve", "--bind", "127.0.0.1:0", *words, env=env)
        assert done.returncode == code
        assert reason in done.stderr
        assert "Traceback" not in done.stderr


# --- sockets that are no port


def test_visitors_are_answered_at_a_unix_socket(plain: BridgeSite) -> None:
    path = plain.directory / "socket"
    with RawConnection(f"unix:{path}") as visitor:
        for target in ("/seen", "/any/page"):
            visitor.send(request("GET", target, plain.address))
            answer = visitor.answer()
            assert answer.status == 200
    assert b"visitor=unknown\n" in answer.body  # RFC 7239, section 6.2


@pytest.mark.slow
def test_a_web_server_that_is_not_trusted_is_named_until_it_is(
    tmp_path: Path, php: PhpServer
) -> None:
    """At a unix socket no visitor has an address but the one that the web server says."""
    path = tmp_path / "socket"
    options = ["--bind", f"unix:{path}"]

    def strangers() -> dict[str, str]:
        (worker,) = site.workers()
        return dict(worker.strangers)

    def visit(address: str) -> bytes:
        with RawConnection(address) as visitor:
            head = request("GET", "/any/page", site.address)
            visitor.send(head.replace(b"\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n", 1))
            return visitor.answer().body

    with BridgeSite(tmp_path, routes(php), options=options) as site:
        assert strangers() == {}
        assert b"visitor=unknown\n" in visit(f"unix:{path}")
        wait_for(strangers, 20, "the worker says so")
        assert strangers() == {"unix": "X-Forwarded-For"}
        done = site.bridge("doctor", "-o", "json")
        (found,) = [one for one in json.loads(done.stdout) if one["what"] == "trusted_proxies"]
        assert (found["state"], "trusted_proxies: [unix]" in found["do"]) == ("bad", True)
        assert "trusted_proxies" in site.bridge("status").stdout
        site.write(routes(php) + "trusted_proxies: [unix]\n")
        wait_for(lambda: not strangers(), 20, "who is trusted is no stranger")
        assert b"visitor=203.0.113.9\n" in visit(f"unix:{path}")
        visit(site.address)
        wait_for(strangers, 20, "the next one")
        assert strangers() == {"127.0.0.1": "X-Forwarded-For"}
        findings = site.bridge_json("doctor")
        assert [one["state"] for one in findings if one["what"] == "trusted_proxies"] == ["note"]


def test_a_unix_socket_is_gone_after_the_end(tmp_path: Path, php: PhpServer) -> None:
    path = tmp_path / "socket"
    with BridgeSite(tmp_path, routes(php), options=["--bind", f"unix:{path}"]) as site:
        assert path.is_socket()
        site.server.signal(signal.SIGTERM)
        wait_for(lambda: not site.server.alive, what="the end of the server")
    assert not path.exists()


def test_a_socket_that_systemd_holds_is_taken_over(tmp_path: Path, php: PhpServer) -> None:
    """Who connects before the server runs is answered once it does."""
    state = tmp_path / "state"
    routes_file = tmp_path / "routes.yaml"
    server = ActivatedServe(
        tmp_path / "serve",
        env={
            "BRIDGE_ROUTES": str(routes_file),
            "BRIDGE_STATE_DIR": str(state),
            "PYTHONPATH": str(REPOSITORY),
        },
        options=["--access-log", ""],
    )
    routes_file.write_text(routes(php).replace("@ADDRESS@", server.address), encoding="utf-8")
    with server:
        early = RawConnection(server.address)
        early.send(request("GET", "/hello", server.address))
        assert not read_all(state)  # nobody serves yet
        assert early.answer().body == b"python\n"
        early.close()
        answer = ask(server.address, request("GET", "/any/page", server.address))
        assert answer.body.startswith(b"php GET /any/page\n")
        server.signal(signal.SIGTERM)
        wait_for(lambda: not server.alive, what="the end of the server")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))


# --- visitors of other kinds


def test_a_visitor_of_http_1_0_gets_a_whole_answer_and_the_end(plain: BridgeSite) -> None:
    for target, body in (("/hello", b"python\n"), ("/any/page", b"php GET /any/page\n")):
        with RawConnection(plain.address) as visitor:
            visitor.send(f"GET {target} HTTP/1.0\r\nHost: {plain.address}\r\n\r\n".encode())
            answer = visitor.answer()
            assert answer.status == 200
            assert answer.body.startswith(body)
            assert answer.get("Transfer-Encoding") is None
            assert visitor.ended()


def test_who_sends_no_more_still_gets_every_answer_and_then_the_end(plain: BridgeSite) -> None:
    with RawConnection(plain.address) as visitor:
        targets = ["/any/first", "/hello", "/any/last"]
        visitor.send(b"".join(request("GET", target, plain.address) for target in targets))
        visitor.say_no_more()
        bodies = [visitor.answer().body.partition(b"\n")[0] for _ in targets]
        assert bodies == [b"php GET /any/first", b"python", b"php GET /any/last"]
        assert visitor.ended()


def test_pipelined_requests_are_answered_in_order_whoever_answers(plain: BridgeSite) -> None:
    """Handlers are quicker than PHP; their answers wait for their turn."""
    targets = [f"/any/{n}" if n % 2 else "/hello" for n in range(40)]
    with RawConnection(plain.address) as visitor:
        visitor.send(b"".join(request("GET", target, plain.address) for target in targets))
        seen = [visitor.answer().body.partition(b"\n")[0].decode() for _ in targets]
    assert seen == [f"php GET {t}" if t != "/hello" else "python" for t in targets]
