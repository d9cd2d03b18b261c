"""Both sides are asked for the same, and Python's answer comes with what it was made of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from werkzeug.wrappers import Request, Response

from bridge import shadow
from bridge.errors import UseLegacy
from bridge.evidence.answers import Asked, Kind
from bridge.evidence.asking import Both, NoAnswer
from bridge.proxy.routing.table import RouteTable
from tests.proxy.shells.double import Backend, plain
from tests.proxy.site import table

HERE = "tests.evidence.test_asking"


def page(request: Request) -> Response:
    """Says what it was asked, and what it reads."""
    shadow.read("project", "bash", 7)
    shadow.read("project", "gone", None)
    response = Response(f"{request.full_path} {request.headers.get('X-Who')} {shadow.active()}")
    response.set_cookie("seen", "1")
    return response


def long(request: Request) -> Response:
    return Response(iter([b"x" * 1000] * 5))


def declines(request: Request) -> Response:
    raise UseLegacy("not mine")


def fails(request: Request) -> Response:
    raise RuntimeError("no database")


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


def site(backend: Backend, view: str, more: str = "python: 5%") -> RouteTable:
    top = (
        "version: 1\nsites: {forge: {hosts: [forge.example], legacy: php}}\n"
        f'backends: {{php: {{url: "http://127.0.0.1:{backend.port}"}}}}\nroutes:\n'
    )
    return table(f'name: page, path: /page, handler: "{HERE}:{view}", {more}', top=top)


@pytest.fixture
def both(backend: Backend) -> Iterator[Both]:
    backend.clear()
    both = Both(site(backend, "page"), body=4000)
    yield both
    both.close()


ASKED = Asked("GET", "/page?a=1", "forge.example", [("X-Who", "me"), ("Cookie", "a=1; b=2")])


def test_each_side_answers_for_itself_whatever_the_share(both: Both, backend: Backend) -> None:
    backend.when("/page", plain("200 OK", "Set-Cookie: a=1", body=b"from PHP"))

    assert both.legacy(ASKED).body == b"from PHP"
    answer = both.python(ASKED)
    assert answer.body == b"/page?a=1 me True"
    assert answer.get("set-cookie") == "seen=1; Path=/"
    assert answer.reads == {("project", "bash"): 7, ("project", "gone"): None}
    # A visitor who may get either side gets a cookie that keeps them there; here nobody does.
    assert answer.get("Cache-Control") is None


def test_what_a_browser_has_already_is_no_matter(both: Both, backend: Backend) -> None:
    given = [("If-None-Match", '"v1"'), ("If-Modified-Since", "now"), ("Range", "bytes=0-1")]
    both.legacy(Asked("GET", "/page", "forge.example", [*given, ("X-Who", "me")]))
    names = {name.lower() for name, _ in backend.only().headers}
    assert "x-who" in names
    assert not names & {"if-none-match", "if-modified-since", "range"}


def test_nothing_is_read_for_the_next_request(both: Both) -> None:
    first, second = both.python(ASKED), both.python(ASKED)
    assert first.reads == second.reads
    assert first.reads is not second.reads
    assert not shadow.active()


def test_of_a_long_answer_length_and_digest_are_known(backend: Backend) -> None:
    for most, whole in ((4999, False), (5000, True)):
        both = Both(site(backend, "long"), body=most)
        answer = both.python(ASKED)
        both.close()
        assert (answer.whole, answer.length, len(answer.body)) == (whole, 5000, 5000 * whole)


@pytest.mark.parametrize("more", ["python: 5%", "python: 5%, fallback: false"])
@pytest.mark.parametrize(
    ("view", "kind", "reason"),
    [
        ("declines", Kind.DECLINED, "declined"),
        ("fails", Kind.DIFFERENT, "python-error"),
    ],
)
def test_a_handler_without_an_answer_is_not_answered_for(
    backend: Backend, view: str, kind: Kind, reason: str, more: str
) -> None:
    backend.clear()
    both = Both(site(backend, view, more))
    for _ in range(30):  # a handler that always fails is not left alone here
        with pytest.raises(NoAnswer) as caught:
            both.python(ASKED)
        assert (caught.value.kind, caught.value.reason) == (kind, reason)
    both.close()
    assert backend.received == []


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Away", "429 Too Many"])
def test_legacy_that_fails_is_nothing_to_compare_with(
    both: Both, backend: Backend, status: str
) -> None:
    backend.when("/page", plain(status))
    with pytest.raises(NoAnswer, match=f"answered {status[:3]}") as caught:
        both.legacy(ASKED)
    assert caught.value.kind is Kind.NOT_COMPARED


def test_a_page_of_legacy_is_not_pythons(both: Both) -> None:
    with pytest.raises(NoAnswer) as caught:
        both.python(Asked("GET", "/other", "forge.example"))
    assert caught.value.kind is Kind.NOT_COMPARED
