"""No request that a backend frames differently from us.

The same raw bytes go through the bridge to two independent parsers: nginx with php-fpm, and
gunicorn. What each of them saw, requests and bodies, must be the same, and no more than the
bridge says it has passed on. Where the two differ for reasons that have nothing to do with
framing, a rule says so by name; nothing else passes.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.bridge import Gunicorn
from stack.nginx import NginxPhp
from tests.fuzz.seeds import REQUESTS, WORDS
from tests.proxy.engine.hostile import others_read
from tests.proxy.shells.double import BOUND
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.test_framing import REFUSED

RECORDING = Path(__file__).with_name("recording")
HOSTS = ("php.test", "wsg.test")
HOST = b"Host: @@@.test\r\n"  # of the same length for both, so that lengths stay right

Seen = tuple[str, bytes, bytes]

UNLIKE: dict[str, Callable[[str, bytes], bool]] = {
    "nginx knows no target but a path": lambda method, target: target == b"*",
    "nginx wants capitals in a method, gunicorn three of them": lambda method, target: (
        not re.fullmatch(r"[A-Z][A-Z_-]{2,19}", method)
    ),
    "nginx answers TRACE itself": lambda method, target: method == "TRACE",
    "nginx refuses a % that is no escape": lambda method, target: bool(
        re.search(rb"%(?![0-9A-Fa-f]{2})", target)
    ),
    "gunicorn refuses a target beyond ASCII": lambda method, target: not target.isascii(),
    "nginx refuses %00": lambda method, target: b"%00" in target,
    "nginx refuses a path that leaves the root": lambda method, target: b".." in target,
}
"""Why one of the backends refuses a well-framed request that the other takes."""


@dataclass
class Backends:
    """Both backends behind one bridge, and what they saw."""

    bridge: Bridge
    records: dict[str, Path]

    def through(self, raw: bytes, name: str) -> tuple[list[Seen], list[Seen]]:
        """Send `raw` (with `@@@` for the backend) and wait for the end; what the backend saw,
        without bodies what the bridge has passed on."""
        before = self.records[name].stat().st_size
        self.bridge.mark()
        with socket.create_connection(self.bridge.address, timeout=BOUND) as sock:
            try:
                sock.sendall(raw.replace(b"@@@", name.encode()))
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass  # reset: an aborted answer, or bytes after a refusal
        with self.records[name].open("rb") as record:
            record.seek(before)
            lines = [json.loads(line) for line in record]
        own = f"{name}.test".encode()

        def plain(text: str) -> bytes:
            return base64.b64decode(text).replace(own, b"@@@.test")

        seen = [(method, plain(target), plain(body)) for method, target, body in lines]
        passed = [
            (line["method"], line["path"].encode("latin-1").replace(own, b"@@@.test"), b"")
            for line in self.bridge.outcomes()
            if line["backend"] == name
        ]
        return seen, passed

    def check(self, raw: bytes) -> list[Seen]:
        """Raises AssertionError where the backends disagree about framing."""
        found = {}
        for name in ("php", "wsg"):
            seen, passed = self.through(raw, name)
            assert len(seen) <= len(passed), (name, raw, seen, passed)
            for (method, target, _), (said, path, _) in zip(seen, passed, strict=False):
                if len(seen) == len(passed):
                    assert (method, target.partition(b"?")[0]) == (said, path), (name, raw)
            found[name] = [s for s in seen if not any(rule(s[0], s[1]) for rule in UNLIKE.values())]
        assert found["php"] == found["wsg"], raw
        # Both could be misled by us alike: a third parser reads what the visitor has sent.
        read, whole = others_read(raw.replace(b"@@@", b"php"))
        left = iter(
            [(m.decode("latin-1"), b.replace(b"php.test", b"@@@.test")) for m, _, b in read]
        )
        if whole:
            assert all((method, body) in left for method, _, body in found["php"]), raw
        return found["php"]


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[Backends]:
    home = tmp_path_factory.mktemp(f"smuggling-{engine}")
    records = {name: home / f"{name}.jsonl" for name in ("php", "wsg")}
    for record in records.values():
        record.touch()
    php = NginxPhp(
        home / "nginx",
        RECORDING,
        fallback="rewrite ^ /index.php last;",
        env={"RECORD": str(records["php"])},
    )
    wsgi = Gunicorn(
        home / "gunicorn",
        "tests.proxy.shells.recording.recorder:app",
        threads=32,
        options=["--keep-alive", "60"],
        env={"RECORD": str(records["wsg"])},
    )
    with php, wsgi:
        bridge = Bridge(home / "bridge", {"DOUBLE": php.url}, engine=engine)
        bridge.routes.write_text(
            "version: 1\nsites:\n"
            "  php: {hosts: [php.test], legacy: php}\n  wsg: {hosts: [wsg.test], legacy: wsg}\n"
            f"backends:\n  php: {{url: '{php.url}'}}\n  wsg: {{url: '{wsgi.url}'}}\nroutes: []\n",
            encoding="utf-8",
        )
        bridge.start()
        yield Backends(bridge, records)
        bridge.stop()


INNER = b"GET /inner HTTP/1.1\r\n" + HOST + b"\r\n"

SMUGGLING = {
    "CL.TE": b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n0\r\n\r\n" % (5 + len(INNER)) + INNER,
    "TE.CL": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4"
    b"\r\n\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "TE.TE, the second hidden": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n" + INNER,
    "TE after a space": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n"
    b"0\r\n\r\n" + INNER,
    "TE after a tab": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\tchunked\r\n\r\n"
    b"0\r\n\r\n" + INNER,
    "TE after a vertical tab": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked"
    b"\r\n\r\n0\r\n\r\n" + INNER,
    "TE in a fold": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n"
    b"0\r\n\r\n" + INNER,
    "TE after a bare LF": b"POST /a HTTP/1.1\r\n" + HOST + b"X: y\nTransfer-Encoding: chunked"
    b"\r\n\r\n0\r\n\r\n" + INNER,
    "TE after a bare CR": b"POST /a HTTP/1.1\r\n" + HOST + b"X: y\rTransfer-Encoding: chunked"
    b"\r\n\r\n0\r\n\r\n" + INNER,
    "TE with an underscore": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer_Encoding: chunked\r\n"
    b"Content-Length: 0\r\n\r\n" + INNER,
    "CL with an underscore": b"POST /a HTTP/1.1\r\n" + HOST + b"Content_Length: %d\r\n\r\n"
    % len(INNER) + INNER,
    "CL.CL": b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n"
    % len(INNER) + INNER,
    "CL.0": b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "CL of a GET": b"GET /a HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(INNER)
    + INNER,
    "CL of a HEAD": b"HEAD /a HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(INNER)
    + INNER,
    "CL named by Connection": b"POST /a HTTP/1.1\r\n" + HOST + b"Connection: Content-Length\r\n"
    b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "TE named by Connection": b"POST /a HTTP/1.1\r\n" + HOST + b"Connection: Transfer-Encoding\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "a chunk size that overflows": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked"
    b"\r\n\r\n10000000000000000\r\n\r\n0\r\n\r\n" + INNER,
    "a chunk extension with a LF": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked"
    b"\r\n\r\n2;\nxx\r\n%x\r\n0\r\n\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "a chunk extension with a CR": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked"
    b"\r\n\r\n2;\rxx\r\n%x\r\n0\r\n\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "a trailer that is a head": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked"
    b"\r\n\r\n0\r\nContent-Length: 5\r\n\r\n" + INNER,
    "a trailer without end": b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked"
    b"\r\n\r\n0\r\n" + INNER,
    "expect and no body": b"POST /a HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n"
    b"Content-Length: 2\r\n\r\n" + INNER,
    "an upgrade and more": b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings"
    b"\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + INNER,
    "a websocket and more": b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n" + INNER,
    "a line end in the target": b"GET /a\rHTTP/1.1 HTTP/1.1\r\n" + HOST + b"\r\n" + INNER,
    "a space in the target": b"GET /a HTTP/1.1 HTTP/1.1\r\n" + HOST + b"\r\n" + INNER,
    "HTTP/0.9": b"GET /a\r\n" + INNER,
    "HTTP/1.0 kept alive, with TE": b"POST /a HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "HTTP/1.0 kept alive, with a body": b"POST /a HTTP/1.0\r\n" + HOST + b"Connection: keep-alive"
    b"\r\nContent-Length: 3\r\n\r\nabc" + INNER,
    "many in a row": INNER * 20,
}  # fmt: skip

SMUGGLING |= {what: raw.replace(b"main.test", b"@@@.test") + INNER for what, raw in REFUSED.items()}


@pytest.mark.parametrize("what", SMUGGLING)
def test_both_backends_see_the_same(backends: Backends, what: str) -> None:
    seen = backends.check(SMUGGLING[what])
    inner = sum(target == b"/inner" for _, target, _ in seen)
    if what in ("CL.TE", "TE.CL", "CL.0", "CL of a GET", "CL of a HEAD") or what in REFUSED:
        assert inner == 0  # it is a body, or follows what was refused


def mutated() -> st.SearchStrategy[bytes]:
    words = [word.replace(b"forge.example", b"@@@.test") for word in WORDS]
    seeds = [raw.replace(b"forge.example", b"@@@.test") for raw in REQUESTS] + [INNER]
    word = st.sampled_from(words) | st.binary(max_size=3)
    edits = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 8), word), max_size=4)

    def apply(messages: list[bytes], edits: list[tuple[int, int, bytes]]) -> bytes:
        raw = b"".join(messages)
        for place, gone, new in edits:
            at = place % (len(raw) + 1)
            raw = raw[:at] + new + raw[at + gone :]
        return raw

    return st.builds(apply, st.lists(st.sampled_from(seeds), min_size=1, max_size=3), edits)


SHORT = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@SHORT
@given(raw=mutated())
def test_both_backends_see_the_same_in_whatever_comes(backends: Backends, raw: bytes) -> None:
    backends.check(raw)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(SHORT, max_examples=4000, derandomize=False)
@given(raw=mutated())
def test_both_backends_see_the_same_in_whatever_comes_long(backends: Backends, raw: bytes) -> None:
    backends.check(raw)
