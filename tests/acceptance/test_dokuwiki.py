"""DokuWiki behind the bridge behaves as DokuWiki: nobody can tell, to the byte.

The folder `dokuwiki` holds requests as browsers and scripts send them, byte for byte. All are
asked directly, directly again, and through `bridgectl serve`; see `tests.acceptance.likeness`.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stack.dokuwiki import DokuWiki
from stack.nginx import NginxPhp
from stack.php import PhpServer
from stack.visitor import Form, forms_of
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.browser import HEADERS, Browser
from tests.acceptance.likeness import Likeness
from tests.acceptance.raw_http import Answer, ask, request

pytestmark = pytest.mark.acceptance

RECORDED = sorted((Path(__file__).parent / "dokuwiki").glob("*.http"))
HOST = "wiki.example.org"
PASSWORD = "pass & wörd"

ROUTES = """\
version: 1
sites:
  wiki: {hosts: [wiki.example.org], legacy: wiki}
backends:
  wiki: {url: "@WIKI@"}
"""


@pytest.fixture(scope="module", params=["php", "nginx"])
def web(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PhpServer | NginxPhp]:
    """The wiki behind `php -S`, and as sites run it: php-fpm behind nginx with keep-alive."""
    wiki = DokuWiki(tmp_path_factory.mktemp("dokuwiki"), password=PASSWORD)
    if request.param == "nginx":
        wiki.prepare()
        directory = tmp_path_factory.mktemp("nginx")
        with NginxPhp(directory, wiki.docroot, env=wiki.env, settings=wiki.settings) as nginx:
            yield nginx
    else:
        with wiki:
            yield wiki


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, web: PhpServer | NginxPhp
) -> Iterator[BridgeSite]:
    """The bridge in front of the wiki, without any route."""
    routes = ROUTES.replace("@WIKI@", web.url)
    with BridgeSite(tmp_path_factory.mktemp("bridge"), routes) as site:
        yield site


@pytest.fixture(scope="module")
def direct(web: PhpServer | NginxPhp) -> dict[str, Likeness]:
    """Two direct answers to each request, from different seconds of the clock."""
    address = f"127.0.0.1:{web.port}"

    for file in RECORDED:
        ask(address, file.read_bytes())  # the wiki fills its caches
    first = {file.stem: (ask(address, file.read_bytes()), time.time()) for file in RECORDED}
    pairs = {}
    for file in RECORDED:
        answer, at = first[file.stem]
        # What shows the time must show another one.
        wait_for(lambda at=at: int(time.time()) > int(at), what="the clock's next second")
        pairs[file.stem] = Likeness(answer, ask(address, file.read_bytes()))
    return pairs


def test_the_recorded_requests_are_many() -> None:
    assert len(RECORDED) >= 40


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_a_recorded_request_is_answered_as_directly(
    site: BridgeSite, direct: dict[str, Likeness], file: Path
) -> None:
    answer = ask(site.address, file.read_bytes())
    assert direct[file.stem].differences(answer) == []


def test_only_times_and_session_ids_differ_between_two_direct_answers(
    direct: dict[str, Likeness],
) -> None:
    names: set[str] = set()
    for name, likeness in direct.items():
        headers, words = likeness.varying()
        names.update(headers)
        for first, second in words:
            # The time in the address of the picture that makes the wiki do its housekeeping.
            assert abs(int(second) - int(first)) < 120, name
        assert len(words) <= 1, name
    assert names == {"Date", "Expires", "Set-Cookie"}


def test_the_recorded_answers_are_of_many_kinds(direct: dict[str, Likeness]) -> None:
    answers = [likeness.first for likeness in direct.values()]
    assert {200, 206, 302, 304, 403, 404, 412, 416} <= {answer.status for answer in answers}
    assert sum(answer.get("Content-Encoding") == "gzip" for answer in answers) > 10
    assert sum(answer.get("ETag") is not None for answer in answers) > 10
    assert sum(len(answer.all("Set-Cookie")) == 2 for answer in answers) > 10
    assert {"Login failed", "Precondition Failed"} <= {answer.reason for answer in answers}


def test_the_comparison_sees_what_a_proxy_could_do_wrong(direct: dict[str, Likeness]) -> None:
    likeness = direct["page-front"]
    right = likeness.second
    assert likeness.differences(right) == []
    headers = right.headers
    cookies = [pair for pair in headers if pair[0] == "Set-Cookie"]
    others = [pair for pair in headers if pair[0] != "Set-Cookie"]
    merged = ("Set-Cookie", ", ".join(value for _, value in cookies))
    for wrong in (
        replace(right, status=201),
        replace(right, reason="Fine"),
        replace(right, headers=headers[1:]),
        replace(right, headers=[*headers, ("Via", "1.1 proxy")]),
        replace(right, headers=headers[::-1]),
        replace(right, headers=[(name.lower(), value) for name, value in headers]),
        replace(right, headers=[*others, *cookies]),
        replace(right, headers=[merged if pair in cookies else pair for pair in headers]),
        replace(right, headers=[(n, v.replace("HttpOnly", "Secure")) for n, v in headers]),
        replace(right, headers=[(n, v.replace("DokuWiki=", "DokuWiki=%20")) for n, v in headers]),
        replace(direct["media"].first, headers=headers),
        replace(right, body=direct["page-by-path-info"].first.body),
    ):
        assert likeness.differences(wrong), wrong
    media = direct["media"]
    flipped = bytes([media.second.body[0] ^ 1]) + media.second.body[1:]
    for body in (media.second.body[:-1], media.second.body + b"0", flipped):
        assert media.differences(replace(media.second, body=body))


@pytest.mark.parametrize("script", ["css.php", "js.php"])
def test_a_cached_script_is_not_sent_again(site: BridgeSite, script: str) -> None:
    browser = Browser(site.address, HOST)
    target = f"/lib/exe/{script}?t=dokuwiki"
    fresh = browser.get(target)
    assert fresh.status == 200
    again = browser.get(
        target,
        If_None_Match=fresh.get("ETag") or "",
        If_Modified_Since=fresh.get("Last-Modified") or "",
    )
    assert (again.status, again.body) == (304, b"")
    assert again.get("ETag") == fresh.get("ETag")


def test_an_anonymous_visitor_gets_both_cookies_at_once(site: BridgeSite) -> None:
    live, deleted = Browser(site.address, HOST).get("/doku.php/start").all("Set-Cookie")
    assert live.startswith("DokuWiki=")
    assert "Max-Age=0" not in live
    assert deleted.startswith("DW")
    assert "=deleted; " in deleted


@pytest.fixture
def editor(site: BridgeSite) -> Browser:
    """A browser that has logged in through the bridge."""
    browser = Browser(site.address, HOST)
    browser.get("/doku.php/start")
    form = _form(browser.get("/doku.php/start?do=login"), "p")
    page = browser.follow(
        browser.post("/doku.php/start?do=login", {**form.fields, "u": "admin", "p": PASSWORD})
    )
    assert b"Logged in as" in page.body
    return browser


def _form(page: Answer, field: str) -> Form:
    return next(form for form in forms_of(page.body.decode()) if field in form.fields)


def test_a_visitor_stays_logged_in(editor: Browser) -> None:
    cookies = dict(editor.cookies)
    for target in ("/doku.php/start", "/doku.php/wiki:syntax", "/doku.php/start?do=admin") * 3:
        page = editor.get(target)
        assert page.status == 200
        assert b"Logged in as" in page.body
    # A login that does not fit the browser's headers would be made anew, with new cookies.
    assert editor.cookies == cookies


def test_another_browser_with_the_same_cookies_gets_a_session_of_its_own(editor: Browser) -> None:
    """This is what tells that the wiki does look at the headers that the bridge passes on."""
    session = editor.cookies["DokuWiki"]
    editor.get("/doku.php/start", Accept_Language="de")
    thief = Browser(editor.address, HOST)
    thief.cookies["DokuWiki"] = session
    assert b"Logged in as" not in thief.get("/doku.php/start", Accept_Language="fr").body


def test_logging_out_ends_it(editor: Browser) -> None:
    token = _form(editor.get("/doku.php/start?do=edit"), "sectok").fields["sectok"]
    page = editor.follow(editor.get(f"/doku.php/start?do=logout&sectok={token}"))
    assert b"Logged in as" not in page.body
    assert not any(name.startswith("DW") for name in editor.cookies)
    assert b"Logged in as" not in editor.get("/doku.php/start").body


def test_a_page_is_edited_and_seen(editor: Browser) -> None:
    text = "====== Edited ======\n\nGrüße & 100% <b> +plus+ \\\\ line\n"
    form = _form(editor.get("/doku.php/playground:edited?do=edit"), "wikitext")
    saved = editor.post(
        "/doku.php/playground:edited",
        {**form.fields, "wikitext": text, "summary": "through the bridge", "do[save]": "1"},
    )
    page = editor.follow(saved)
    assert "Grüße &amp; 100% &lt;b&gt; +plus+" in page.body.decode()
    raw = Browser(editor.address, HOST).get("/doku.php/playground:edited?do=export_raw")
    assert raw.body.decode() == text


PICTURE = random.Random("upload").randbytes(300_000)


def _upload_by_form(editor: Browser, token: str) -> None:
    fields = {"sectok": token, "ns": "wiki", "mediaid": "by_form.zip", "ow": "1"}
    parts = [
        f'--frontier\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    file = (
        b'--frontier\r\nContent-Disposition: form-data; name="upload"; filename="by_form.zip"\r\n'
    )
    body = b"".join([*parts, file, b"Content-Type: application/zip\r\n\r\n", PICTURE])
    answer = editor.send(
        "POST",
        "/lib/exe/mediamanager.php?ns=wiki",
        body + b"\r\n--frontier--\r\n",
        {"Content-Type": "multipart/form-data; boundary=frontier"},
    )
    assert b"Upload successful" in answer.body


def _upload_by_script(editor: Browser, token: str) -> None:
    answer = editor.send(
        "POST",
        f"/lib/exe/ajax.php?call=mediaupload&ns=wiki&qqfile=by_script.zip&sectok={token}&ow=1",
        PICTURE,
        {"Content-Type": "application/octet-stream", "X-Requested-With": "XMLHttpRequest"},
    )
    assert json.loads(answer.body)["success"] is True


def _upload_in_chunks(editor: Browser, token: str) -> None:
    chunks = [PICTURE[at : at + 7001] for at in range(0, len(PICTURE), 7001)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    cookies = "; ".join(f"{name}={value}" for name, value in editor.cookies.items())
    raw = request(
        "POST",
        f"/lib/exe/ajax.php?call=mediaupload&ns=wiki&qqfile=in_chunks.zip&sectok={token}&ow=1",
        HOST,
        {
            **HEADERS,
            "Cookie": cookies,
            "Content-Type": "application/octet-stream",
            "Transfer-Encoding": "chunked",
        },
    )
    answer = ask(editor.address, raw + body)
    assert b'"success":true' in gzip.decompress(answer.body)


@pytest.mark.parametrize(
    ("upload", "name"),
    [
        (_upload_by_form, "by_form.zip"),
        (_upload_by_script, "by_script.zip"),
        (_upload_in_chunks, "in_chunks.zip"),
    ],
)
def test_an_uploaded_file_reads_back_whole_and_in_parts(
    editor: Browser, upload: Callable[[Browser, str], None], name: str
) -> None:
    form = _form(editor.get("/lib/exe/mediamanager.php?ns=wiki"), "sectok")
    upload(editor, form.fields["sectok"])
    target = f"/lib/exe/fetch.php/wiki:{name}"
    visitor = Browser(editor.address, HOST)
    whole = visitor.get(target)
    assert (whole.status, whole.body) == (200, PICTURE)
    part = visitor.get(target, Range="bytes=100000-199999")
    assert (part.status, part.reason) == (206, "Partial Content")
    assert part.get("Content-Range") == "bytes 100000-199999/300000"
    assert part.body == PICTURE[100_000:200_000]
    again = visitor.get(
        target,
        If_None_Match=whole.get("ETag") or "",
        If_Modified_Since=whole.get("Last-Modified") or "",
    )
    assert (again.status, again.body) == (304, b"")
