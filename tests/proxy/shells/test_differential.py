"""Both shells beside nginx as a proxy, in front of the same legacy server, byte for byte.

Each raw request goes through nginx and through the bridge; each raw answer comes back through
both. What legacy saw and what the visitor got must be the same. A difference passes only where
a rule names it and says why it is wanted; a case says which rules it needs, no more and no less.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.nginx import Nginx
from tests.fuzz.seeds import REQUESTS, WORDS
from tests.proxy.shells import double as double_module
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.test_framing import BROKEN_ANSWERS
from tests.proxy.shells.test_smuggling import SMUGGLING
from tests.proxy.shells.visitor import Visitor, request

RECORDED = sorted(
    file
    for folder in ("recorded", "written")
    for file in Path(__file__).with_name(folder).glob("*.http")
)

NGINX = """
    keepalive_timeout 5s;
    server {
        listen @LISTEN@;
        server_name via.test "";
        client_max_body_size 0;
        location / {
            proxy_pass http://127.0.0.1:@DOUBLE@;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_pass_header Server;
            proxy_pass_header Date;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
        }
    }
    server { listen @LISTEN@ default_server; server_name _; return 421; }
"""

# Who the visitor is, whose request it is, and what is for one connection only.
NOT_COMPARED = frozenset(
    (
        *("connection", "forwarded", "host", "x-bridge-hop", "x-forwarded-for"),
        *("x-forwarded-host", "x-forwarded-proto", "x-request-id", "via"),
    )
)
NOT_COMPARED_BACK = frozenset(("connection", "date", "server", "keep-alive"))


@dataclass
class Message:
    """What a request or an answer says, without what may be spelt in several ways."""

    what: tuple[str, ...]
    framing: str
    headers: dict[str, list[str]]
    body: bytes


@dataclass
class View:
    """What one proxy made of a case: what legacy saw, and what the visitor got."""

    raw: bytes
    requests: list[Message] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)


def _spoken(headers: list[tuple[str, str]], left_out: frozenset[str]) -> dict[str, list[str]]:
    spoken: dict[str, list[str]] = defaultdict(list)
    for name, value in headers:
        if (small := name.lower()) not in left_out | {"content-length", "transfer-encoding"}:
            # A repeated field is one list (RFC 9110, 5.3); cookies are no list.
            spoken[small] += (
                [value] if small == "set-cookie" else [p.strip() for p in re.split("[,;]", value)]
            )
    return dict(spoken)


def _framing(headers: list[tuple[str, str]]) -> str:
    names = {name.lower() for name, _ in headers}
    if "transfer-encoding" in names:
        return "chunked"
    return "length" if "content-length" in names else "none"


def view(address: tuple[str, int], raw: bytes, backend: Backend) -> View:
    """Send `raw`, then no more, and read to the end."""
    # Connections are accepted in turn: those of the case before have their numbers after this.
    backend.hang_up()
    with Visitor(("127.0.0.1", backend.port)) as visitor:
        visitor.send(request("GET", "/in-turn"))
        visitor.answer()
    backend.received.clear()
    before = backend.connections
    data = b""
    with socket.create_connection(address, timeout=BOUND) as sock:
        try:
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                data += piece
        except ConnectionError:
            pass
    found = View(raw)
    received = [r for r in list(backend.received) if r.connection > before]
    for got in received:
        what = (got.method, got.target.decode("latin-1"))
        spoken = _spoken(got.headers, NOT_COMPARED)
        found.requests.append(Message(what, _framing(got.headers), spoken, got.body))
    methods = [got.method for got in received]
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        if not end or not line.startswith("HTTP/1."):
            found.answers.append(Message(("cut",), "", {}, b""))
            break
        headers = [(n, v.strip()) for n, _, v in (text.partition(":") for text in lines)]
        status, framing = line.split(" ")[1], _framing(headers)
        if status[0] == "1":
            continue
        method = methods[len(found.answers)] if len(found.answers) < len(methods) else "GET"
        body = b""
        what: tuple[str, ...] = (status,)
        if method == "HEAD" or status in ("204", "304"):
            pass
        elif framing == "chunked":
            body, rest = _unchunk(data)
            what = what if rest is not None else (status, "cut")
            data = rest or b""
        elif framing == "length":
            size = int({n.lower(): v for n, v in headers}["content-length"])
            what = what if len(data) >= size else (status, "cut")
            body, data = data[:size], data[size:]
        else:
            body, data = data, b""
        found.answers.append(Message(what, framing, _spoken(headers, NOT_COMPARED_BACK), body))
    return found


def _unchunk(data: bytes) -> tuple[bytes, bytes | None]:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return body, None
        size = int(line.partition(b";")[0], 16)
        if not size:
            while data and not data.startswith(b"\r\n"):
                data = data.partition(b"\r\n")[2]
            return body, data[2:] if data else None
        if len(data) < size + 2:
            return body + data[:size], None
        body, data = body + data[:size], data[size + 2 :]


Difference = tuple[str, object, object]


def differences(theirs: View, ours: View) -> list[Difference]:
    """Each as what differs, nginx's, ours."""
    found: list[Difference] = []
    seen, got = len(ours.requests), len(theirs.requests)
    if seen != got:
        found.append(("requests", theirs.requests, ours.requests))
    if len(theirs.answers) != len(ours.answers):
        found.append(("answers", theirs.answers, ours.answers))
    for side, pairs in (
        ("request", zip(theirs.requests, ours.requests, strict=False)),
        ("answer", zip(theirs.answers, ours.answers, strict=False)),
    ):
        for their, our in pairs:
            if their.what != our.what:
                found.append((side, their.what, our.what))
                if side == "answer":
                    continue  # two different pages
            if side == "answer" and "x-legacy" not in {*their.headers, *our.headers}:
                continue  # pages of the proxies' own
            if their.framing != our.framing:
                found.append((f"{side} framing", their.framing, our.framing))
            if their.body != our.body:
                found.append((f"{side} body", their.body, our.body))
            found += [
                (f"{side} {name}", their.headers.get(name), our.headers.get(name))
                for name in sorted({*their.headers, *our.headers})
                if their.headers.get(name) != our.headers.get(name)
            ]
    return found


@pytest.fixture(scope="module")
def reference(http_home: Path, double: Backend, engine: str) -> Iterator[Nginx]:
    """nginx as a proxy in front of the same legacy server."""
    values = {"DOUBLE": str(double.port)}
    with Nginx(http_home / f"reference-{engine}", NGINX, values=values) as server:
        yield server


def compared(
    bridge: Bridge, backend: Backend, reference: Nginx, raw: bytes
) -> tuple[list[Difference], View, View]:
    theirs = view((reference.host, reference.port), raw, backend)
    ours = view(bridge.address, raw, backend)
    return differences(theirs, ours), theirs, ours


OK = plain("200 OK", "X-Legacy: 1", "Content-Type: text/plain")

ANSWERS = {
    "with a length": plain("200 OK", "X-Legacy: 1"),
    "empty": plain("200 OK", "X-Legacy: 1", body=b""),
    "another reason": plain("299 Well, well", "X-Legacy: 1"),
    "no reason": b"HTTP/1.1 200 \r\nX-Legacy: 1\r\nContent-Length: 2\r\n\r\nok",
    "chunked": plain("200 OK", "X-Legacy: 1", "Transfer-Encoding: chunked", length=False,
        body=b"2\r\nok\r\n3;x=y\r\n!!!\r\n0\r\n\r\n"),
    "chunked, with trailers": plain("200 OK", "X-Legacy: 1", "Transfer-Encoding: chunked",
        length=False, body=b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "after 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + plain("200 OK", "X-Legacy: 1"),
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\n" + plain("200 OK", "X-Legacy: 1"),
    "no content": plain("204 No Content", "X-Legacy: 1", length=False, body=b""),
    "not modified": plain("304 Not Modified", "X-Legacy: 1", 'ETag: "a"', length=False, body=b""),
    "not modified, with a length": b"HTTP/1.1 304 Not Modified\r\nX-Legacy: 1\r\n"
        b"Content-Length: 7\r\n\r\n",
    "reset": plain("205 Reset Content", "X-Legacy: 1", body=b""),
    "a part": plain("206 Partial Content", "X-Legacy: 1", "Content-Range: bytes 0-1/9"),
    "a redirect": plain("302 Found", "X-Legacy: 1", "Location: /there?a=%2F"),
    "a redirect elsewhere": plain("301 Moved", "X-Legacy: 1", "Location: https://other.test/a"),
    "cookies": plain("200 OK", "X-Legacy: 1", "Set-Cookie: a=1, x; Path=/", "Set-Cookie: b=2",
        "Set-Cookie: a=1"),
    "repeated fields": plain("200 OK", "X-Legacy: 1", "Link: </a>", "Link: </b>", "Vary: A",
        "Vary: B", "X-Empty:"),
    "compressed": plain("200 OK", "X-Legacy: 1", "Content-Encoding: gzip", "Vary: Accept-Encoding",
        body=b"\x1f\x8b\x08\x00"),
    "Latin-1": plain("200 OK", "X-Legacy: 1", "X-Name: J\xfcrgen"),
    "white space": plain("200 OK", "X-Legacy:   1  ", "X-Tab:\ta\t"),
    "a fold": plain("200 OK", "X-Legacy: 1", "X-Folded: a\r\n b"),
    "a space before the colon": plain("200 OK", "X-Legacy: 1", "X-Odd : a"),
    "bare LFs": b"HTTP/1.1 200 OK\nX-Legacy: 1\nContent-Length: 2\n\nok",
    "hop-by-hop fields": plain("200 OK", "X-Legacy: 1", "Keep-Alive: timeout=5", "X-Hop: 1",
        "Connection: keep-alive, X-Hop", "Proxy-Authenticate: Basic", "Trailer: X"),
    "internal fields": plain("200 OK", "X-Legacy: 1", "X-Sendfile: /etc/passwd",
        "X-Accel-Buffering: no"),
    "an error": plain("500 Internal Server Error", "X-Legacy: 1", body=b"mine"),
    "not found": plain("404 Not Found", "X-Legacy: 1", body=b"mine"),
    "unauthorised": plain("401 Unauthorized", "X-Legacy: 1", 'WWW-Authenticate: Basic realm="a"'),
    "two answers": plain("200 OK", "X-Legacy: 1") * 2,
    "garbage": b"what is this?\r\n\r\n",
    "a NUL": plain("200 OK", "X-Legacy: 1", "X-Nul: a\0b"),
    "a switch that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nX-Legacy: 1\r\n\r\nuntil the end",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nX-Legacy: 1\r\n\r\nold",
    "cut in a length": plain("200 OK", "X-Legacy: 1", "Content-Length: 9", length=False),
    "cut in a chunk": plain("200 OK", "X-Legacy: 1", "Transfer-Encoding: chunked", length=False,
        body=b"9\r\nok"),
    "cut between chunks": plain("200 OK", "X-Legacy: 1", "Transfer-Encoding: chunked",
        length=False, body=b"2\r\nok\r\n"),
    "cut in the head": b"HTTP/1.1 200 OK\r\nX-Leg",
    "nothing": b"",
    **{f"broken: {what}": b"HTTP/1.1 200 OK\r\nX-Legacy: 1\r\n" + rest
       for what, rest in BROKEN_ANSWERS.items()},
}  # fmt: skip


def answering(raw: bytes) -> Callable[[Call], None]:
    def script(call: Call) -> None:
        call.body()
        call.send(raw)
        call.close()

    return script


Rule = Callable[[Difference, View, View], bool]
ONE_HOP = frozenset(
    ("http2-settings", "proxy-authenticate", "proxy-connection", "trailer", "x-a", "x-hop")
)


def _refused(difference: Difference, theirs: View, ours: View) -> bool:
    what, _, our = difference
    if ("400",) not in [answer.what for answer in ours.answers]:
        return False
    if what.startswith("request"):  # what nginx takes besides, and nothing else
        left = iter([(r.what, r.body) for r in theirs.requests])
        # The head of a request may have gone on before its body turned out to be bad.
        return all((r.what, r.body) in left for r in ours.requests[:-1])
    return what == "answers" or (what == "answer" and our == ("400",))


RULES: dict[str, Rule] = {
    "we refuse what two parsers could read differently": _refused,
    "we cut off or refuse an answer that two parsers could read differently": lambda d, t, o: (
        d[0] in ("answer", "answers")
        and len(o.answers) == 1
        and (o.answers[0].what == ("502",) or o.answers[0].what[-1] == "cut")
    ),
    "nginx has read all of a short chunked body and knows its length": lambda d, t, o: (
        d == ("request framing", "length", "chunked")
    ),
    "nginx answers Expect itself": lambda d, t, o: d == ("request expect", None, ["100-continue"]),
    "nginx passes on fields that are for one hop": lambda d, t, o: (
        d[0].rpartition(" ")[2] in ONE_HOP and d[2] is None
    ),
    "nginx tunnels only where it is told to": lambda d, t, o: (
        d == ("request upgrade", None, ["websocket"])
    ),
    "plain WSGI has no tunnel": lambda d, t, o: ("501",) in [a.what for a in o.answers],
    "we keep names of files to ourselves": lambda d, t, o: d[0] == "answer x-sendfile",
    "nginx takes no tab for white space": lambda d, t, o: (
        b"\t" in t.raw and [a.what for a in t.answers[-1:]] in ([("400",)], [("501",)])
    ),
    "nginx does not look at what is expected": lambda d, t, o: (
        ("417",) in [a.what for a in o.answers]
    ),
    "we mend answers of old servers": lambda d, t, o: d == ("answer", ("502",), ("200",)),
    "what is no whole head gets no answer from us": lambda d, t, o: (
        d[0] == "answers"
        and len(t.answers) == len(o.answers) + 1
        and t.answers[-1].what[0] in ("400", "501", "405")
    ),
    "we go on after a refusal that leaves no doubt about framing": lambda d, t, o: (
        d[0] in ("requests", "answers")
        and len(t.answers) < len(o.answers)
        and t.answers[-1:] != []
        and t.answers[-1].what == o.answers[len(t.answers) - 1].what == ("400",)
    ),
    "both refuse it, with another status": lambda d, t, o: (
        d[0] == "answer" and {str(d[1])[2:5], str(d[2])[2:5]} <= {"400", "405", "421", "501", "505"}
    ),
    "only we say TE: trailers again": lambda d, t, o: d == ("request te", None, ["trailers"]),
    "nginx drops fields with unusual names": lambda d, t, o: (
        d[0].startswith("request ")
        and d[1] is None
        and not re.fullmatch("[a-z0-9-]+", d[0].partition(" ")[2])
    ),
    "gunicorn sees a close that stands alone only": lambda d, t, o: (
        d[0] in ("requests", "answers")
        and re.search(rb"Connection:[^\r]*,\s*close", t.raw) is not None
        and len(o.answers) > len(t.answers)
    ),
    "we end the connection of who sends a body with what is refused": lambda d, t, o: (
        d[0] in ("requests", "answers")
        and len(o.answers) < len(t.answers)
        and [a.what[0] for a in o.answers[-1:]] <= ["499"]
        and t.requests[: len(o.requests)] == o.requests
    ),
    "nginx answers HTTP/0.9": lambda d, t, o: [a.what for a in t.answers[-1:]] == [("cut",)],
    "nginx refuses a % that is no escape": lambda d, t, o: (
        [a.what for a in t.answers[-1:]] == [("400",)]
        and any(re.search("%(?![0-9A-Fa-f]{2})", r.what[1]) for r in o.requests)
    ),
    "nginx wants capitals in a method": lambda d, t, o: (
        t.answers[-1:] != []
        and t.answers[-1].what == ("400",)
        and any(not re.fullmatch("[A-Z_-]+", r.what[0]) for r in o.requests[len(t.requests) :])
    ),
    "nginx knows no target but a path": lambda d, t, o: (
        t.answers[-1:] != [] and t.answers[-1].what == ("400",) and b"OPTIONS * " in t.raw
    ),
    "nginx finds close in any word of Connection": lambda d, t, o: (
        d[0] in ("requests", "answers")
        and re.search(rb"(?i)Connection:[^\r]*(close[^,\r]+|[^,: \t\r]+ *close)", t.raw) is not None
        and len(o.answers) > len(t.answers)
    ),
    "nginx takes Expect only once": lambda d, t, o: (
        t.answers[-1:] != []
        and t.answers[-1].what == ("400",)
        and len(re.findall(rb"\nExpect: *100-continue\r", t.raw)) > 1
    ),
    "only we count forwards down": lambda d, t, o: d[0] == "request max-forwards",
    "nginx takes an interim answer for the final one": lambda d, t, o: (
        not t.answers and [a.what for a in o.answers] == [("200",)]
    ),
}
"""Why a difference is wanted."""


def unexplained(
    found: list[Difference], theirs: View, ours: View, rules: Iterable[str] = RULES
) -> list[Difference]:
    """What of `found` none of these rules explains."""
    return [d for d in found if not any(RULES[rule](d, theirs, ours) for rule in rules)]


REFUSED_HERE = "we refuse what two parsers could read differently"
BROKEN_HERE = "we cut off or refuse an answer that two parsers could read differently"
MENDED = "we mend answers of old servers"
ONE_HOP_ONLY = "nginx passes on fields that are for one hop"
SHORT_CHUNKS = "nginx has read all of a short chunked body and knows its length"

NO_TARGET = b"GET admin HTTP/1.1\r\nHost: via.test\r\n\r\n"
ATTACKS = {
    **SMUGGLING,
    "a head that is not whole": b"GET / HTTP/1.1\r\nHost: via.test\r\n\r\r\n",
    "a target that is none": NO_TARGET + NO_TARGET.replace(b"admin", b"/"),
    "two hosts": b"GET http://other.test/ HTTP/1.1\r\nHost: via.test\r\n\r\n" + SMUGGLING["CL.0"],
    "another expectation": NO_TARGET.replace(b"admin", b"/").replace(
        b"\r\n\r\n", b"\r\nExpect: \x85100-continue\r\nContent-Length: 0\r\n\r\n"
    ),
    "an expectation twice": b"POST / HTTP/1.1\r\nHost: via.test\r\n"
    + 2 * b"Expect: 100-continue\r\n"
    + b"Content-Length: 1\r\n\r\na",
    "a strange name": b"GET / HTTP/1.1\r\nHost: via.test\r\n*X: 1\r\n\r\n",
    "close among others": 2 * b"GET / HTTP/1.1\r\nHost: via.test\r\nConnection: te, close\r\n\r\n",
    "close in a longer word": 2
    * b"GET / HTTP/1.1\r\nHost: via.test\r\nConnection: close now\r\n\r\n",
    "half a head after HTTP/0.9": b"GET /\r\nHost: via.test\r\n",
    "no escape": b"GET /%zz HTTP/1.1\r\nHost: via.test\r\n\r\n",
    "a body with what is refused": b"POST / HTTP/1.1\r\nHost: other.test\r\n"
    b"Content-Length: 2\r\n\r\nab" + NO_TARGET.replace(b"admin", b"/"),
    "a method of other letters": b"*get / HTTP/1.1\r\nHost: via.test\r\n\r\n",
}

MAY: dict[str, set[str]] = {
    "chromium-socket": {"nginx tunnels only where it is told to", "plain WSGI has no tunnel"},
    "curl-chunked-post-echo": {SHORT_CHUNKS},
    "curl-expect-post-echo": {"nginx answers Expect itself"},
    "curl-put-put-echo": {"nginx answers Expect itself"},
    "curl-options-options": {"nginx knows no target but a path"},
    "python-post-echo": {SHORT_CHUNKS},
    "proxy-client": {ONE_HOP_ONLY},
    "TE after a tab": {"nginx takes no tab for white space"},
    "TE named by Connection": {SHORT_CHUNKS},
    # What follows the last chunk nginx does not look at; plain WSGI leaves it to gunicorn.
    "a trailer that is a head": {SHORT_CHUNKS, REFUSED_HERE},
    "a trailer without end": {SHORT_CHUNKS, REFUSED_HERE},
    "expect and no body": {"nginx answers Expect itself", REFUSED_HERE},
    "an upgrade and more": {ONE_HOP_ONLY},
    "a websocket and more": {
        "nginx tunnels only where it is told to",
        "plain WSGI has no tunnel",
    },
    "a head that is not whole": {"what is no whole head gets no answer from us"},
    "a target that is none": {"we go on after a refusal that leaves no doubt about framing"},
    "a method of other letters": {"nginx wants capitals in a method"},
    "two hosts": {"both refuse it, with another status"},
    "grpc-like": {"only we say TE: trailers again", ONE_HOP_ONLY},
    "another expectation": {"nginx does not look at what is expected"},
    "close in a longer word": {"nginx finds close in any word of Connection"},
    "an expectation twice": {"nginx takes Expect only once"},
    "a strange name": {"nginx drops fields with unusual names"},
    "close among others": {"gunicorn sees a close that stands alone only"},
    "half a head after HTTP/0.9": {"nginx answers HTTP/0.9"},
    "no escape": {"nginx refuses a % that is no escape"},
    "a body with what is refused": {
        "we end the connection of who sends a body with what is refused"
    },
    "options-server": {"nginx knows no target but a path"},
    "options-forwards": {"only we count forwards down"},
    "a fold": {MENDED},
    "a space before the colon": {MENDED},
    "hop-by-hop fields": {ONE_HOP_ONLY},
    "internal fields": {"we keep names of files to ourselves"},
    "garbage": {BROKEN_HERE},
    "a switch that nobody asked for": {BROKEN_HERE},
    "after 103": {"nginx takes an interim answer for the final one"},
    "after 100": {"nginx takes an interim answer for the final one"},
    **{f"broken: {what}": {BROKEN_HERE} for what in BROKEN_ANSWERS},
    **{
        what: {REFUSED_HERE}
        for what in (
            *("TE after a vertical tab", "TE after a bare LF", "HTTP/0.9"),
            *("a chunk size that overflows", "a chunk extension with a LF"),
            *("a chunk extension with a CR", "another coding", "an unknown coding"),
            *("a coding before chunked", "a coding after chunked", "no colon"),
            *("a name that is no ASCII", "a bare LF in a value", "another control character"),
            *("bare LFs as line ends", "no version", "another version"),
            "two spaces in the request line",
        )
    },
}
"""What a case may need; all others need nothing, in either shell."""


@pytest.fixture
def marked(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Legacy says in every answer that it is its own."""
    monkeypatch.setattr(double_module, "OK", OK)
    return backend


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_browsers_send(bridge: Bridge, marked: Backend, reference: Nginx, path: Path) -> None:
    found = compared(bridge, marked, reference, path.read_bytes())
    assert found[2].answers
    assert unexplained(*found, MAY.get(path.stem, ())) == []


@pytest.mark.parametrize("what", ATTACKS)
def test_what_attackers_send(bridge: Bridge, marked: Backend, reference: Nginx, what: str) -> None:
    found = compared(bridge, marked, reference, ATTACKS[what].replace(b"@@@", b"via"))
    assert unexplained(*found, MAY.get(what, ())) == []


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("what", ANSWERS)
def test_what_legacy_answers(
    bridge: Bridge, marked: Backend, reference: Nginx, what: str, method: bytes
) -> None:
    marked.when("/down", answering(ANSWERS[what]))
    raw = method + b" /down HTTP/1.1\r\nHost: via.test\r\n\r\n"
    found = compared(bridge, marked, reference, raw)
    assert unexplained(*found, MAY.get(what, ())) == []


def generated() -> st.SearchStrategy[bytes]:
    """Sound requests with words of the protocol where they do not belong."""
    words = [word.replace(b"forge.example", b"via.test") for word in WORDS]
    seeds = [raw.replace(b"forge.example", b"via.test") for raw in REQUESTS]
    seeds += [path.read_bytes() for path in RECORDED if b"Proxy-" not in path.read_bytes()]
    edits = st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 6), st.sampled_from(words)), max_size=2
    )

    def apply(messages: list[bytes], edits: list[tuple[int, int, bytes]]) -> bytes:
        raw = b"".join(messages)
        for place, gone, new in edits:
            at = place % (len(raw) + 1)
            raw = raw[:at] + new + raw[at + gone :]
        return raw

    made = st.builds(apply, st.lists(st.sampled_from(seeds), min_size=1, max_size=2), edits)
    # Whether a page of a proxy's own answers a HEAD cannot be seen from outside.
    return made.filter(lambda raw: b"HEAD" not in raw)


SHORT = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@SHORT
@given(raw=generated())
def test_whatever_visitors_send(
    bridge: Bridge, marked: Backend, reference: Nginx, raw: bytes
) -> None:
    assert unexplained(*compared(bridge, marked, reference, raw)) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(SHORT, max_examples=2000, derandomize=False)
@given(raw=generated())
def test_whatever_visitors_send_long(
    bridge: Bridge, marked: Backend, reference: Nginx, raw: bytes
) -> None:
    assert unexplained(*compared(bridge, marked, reference, raw)) == []


def test_every_rule_is_needed() -> None:
    used = set().union(*MAY.values())
    assert set(RULES) == used
