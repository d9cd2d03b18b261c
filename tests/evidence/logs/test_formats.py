"""A line that a server writes is read back as it was meant, in every format."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.logs import Entry, entries
from bridge.evidence.logs.entry import make, split_request, time_of
from bridge.evidence.logs.formats import KNOWN, read_format

TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=30)
WORD = st.text("abcXYZ019.-_/%~", min_size=1, max_size=20)
NGINX = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" $request_time $host'
)
APACHE = '%a %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\" %D %v'


def nginx_escaped(text: str) -> str:
    """As nginx writes a variable."""
    return "".join(
        f"\\x{ord(c):02X}" if c in '"\\' or ord(c) < 32 or ord(c) > 126 else c for c in text
    )


def apache_escaped(text: str) -> str:
    """As Apache writes a value of the request."""
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\v": "\\v", "\b": "\\b", "\f": "\\f"}
    known |= {'"': '\\"', "\\": "\\\\"}
    return "".join(
        known.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) > 126 else c) for c in text
    )


def read(line: str, format_: str) -> Entry:
    found = read_format(format_)
    matched = found.line.findall(line)
    assert len(matched) == 1
    return make(dict(zip(found.fields, matched[0], strict=True)), found.scale)


@given(
    when=st.integers(0, 2_000_000_000),
    target=WORD,
    status=st.integers(100, 599),
    size=st.integers(0, 10**12),
    agent=TEXT.filter(lambda text: text != "-"),
    ms=st.integers(0, 10**6),
)
def test_what_nginx_and_apache_write_is_read_back(
    when: int, target: str, status: int, size: int, agent: str, ms: int
) -> None:
    time = datetime.fromtimestamp(when, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    request = f"GET /{target}?q=1 HTTP/1.1"
    wanted = (float(when), "GET", f"/{target}?q=1", status, size, "example.org", "192.0.2.7", agent)
    line = f'192.0.2.7 - - [{time}] "{nginx_escaped(request)}" {status} {size} "-" '
    ours = read(f'{line}"{nginx_escaped(agent)}" {ms / 1000:.3f} example.org\n', NGINX)
    theirs = f'{line}"{apache_escaped(agent)}" {ms * 1000} example.org\n'
    for found in (ours, read(theirs, APACHE)):
        assert found[:8] == wanted
        assert found.seconds == pytest.approx(ms / 1000)


@pytest.mark.parametrize("known", KNOWN, ids=lambda one: one.name)
def test_each_known_format_is_guessed_from_a_line_of_its_own(known: object, tmp_path: Path) -> None:
    name = known.name  # type: ignore[attr-defined]
    line = '192.0.2.7 - bob [17/May/2015:10:05:03 +0200] "HEAD /a HTTP/1.0" 304 -'
    line += ' "-" "curl"' if "combined" in name else ""
    line = f"example.org:443 {line}" if "host" in name else line
    log = tmp_path / "log"
    log.write_text(f"{line}\n")
    (found,) = entries([log])
    assert (found.client, found.user, found.method, found.target) == (
        "192.0.2.7", "bob", "HEAD", "/a",
    )  # fmt: skip
    assert found.time == datetime(2015, 5, 17, 8, 5, 3, tzinfo=UTC).timestamp()
    assert found.host == ("example.org:443" if "host" in name else "")
    assert found.agent == ("curl" if "combined" in name else "")


@pytest.mark.parametrize(
    "line",
    [
        {
            "time": "2026-05-17T10:05:03+00:00", "remote_addr": "192.0.2.7", "status": 200,
            "request": "GET /a?b=é HTTP/2.0", "body_bytes_sent": 12, "request_time": "0.250",
        },
        {
            "time_local": "17/May/2026:10:05:03 +0000", "remote_addr": "192.0.2.7",
            "request_method": "GET", "request_uri": "/a?b=é", "status": "200", "bytes_sent": "12",
            "request_time": 0.25,
        },
        {
            "ts": 1779012303.0, "status": 200, "size": 12, "duration": 0.25,
            "request": {"remote_ip": "192.0.2.7", "method": "GET", "uri": "/a?b=é"},
        },
        {
            "@timestamp": "2026-05-17T10:05:03Z", "clientip": "192.0.2.7", "verb": "GET",
            "path": "/a", "query": "?b=é", "response_code": 200, "bytes": 12, "ms": 250,
        },
    ],
    ids=["nginx", "nginx in pieces", "Caddy", "Apache"],
)  # fmt: skip
def test_json_lines_are_read_by_the_keys_that_people_use(
    line: dict[str, object], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    (found,) = entries([log])
    assert found.target.encode("latin-1").decode() == "/a?b=é"
    assert (found.time, found.method, found.status, found.bytes, found.seconds) == (
        1779012303.0, "GET", 200, 12, 0.25,
    )  # fmt: skip
    assert found.client == "192.0.2.7"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", "no variable"),
        ("$remote_addr $status", "no request"),
        ("$remote_addr$request", "nothing stands between"),
    ],
)
def test_a_format_that_cannot_be_read_says_why(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_format(text)


def test_a_pasted_log_format_of_several_pieces_is_one_format() -> None:
    pasted = "log_format main '$remote_addr [$time_local] '\n '\"$request\" $status';"
    found = read('192.0.2.7 [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200\n', pasted)
    assert (found.client, found.target, found.status) == ("192.0.2.7", "/", 200)


@given(st.text(max_size=200))
def test_no_text_stops_what_reads_times_and_requests(text: str) -> None:
    time_of(text)
    method, target = split_request(text)
    assert method or target == text or "\\" in text
