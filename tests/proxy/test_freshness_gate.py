"""The dispatcher and a visitor's own edit: who answers, what handlers see, when the cookie ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from werkzeug.test import Client, TestResponse

from bridge.errors import ConfigError, UseLegacy
from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.wsgi.dispatcher import Dispatcher
from bridge.sync.freshness import SETTLING, Entry, Gate, Keys, wanted
from tests.proxy.shells.double import Backend, plain
from tests.proxy.site import TOP, table

NOW = 1_767_225_600
KEYS = Keys([("a1", "0123456789abcdef")])
FRESH = KEYS.sign([Entry("project", "vim", 7, NOW)])
TWO = KEYS.sign([Entry("project", "vim", 7, NOW), Entry("user", "ann", 1, NOW)])
SETTLED = KEYS.sign([Entry("project", "vim", 7, NOW - int(SETTLING))])
ENDED = "bv=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"

seen: list[str | None] = []
"""The Cookie header that a handler got, for each call."""


def shows(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    seen.append(environ.get("HTTP_COOKIE"))
    start_response("200 OK", [("Cache-Control", "public, s-maxage=60"), ("ETag", '"1"')])
    return [b"python"]


def signs(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A handler that wrote something itself."""
    start_response("200 OK", [("Set-Cookie", "bv=anew")])
    return [b"python"]


def asks_store(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What Store does in a handler whose route names no `reads`."""
    it = wanted.get()
    assert it is not None
    assert it.version("project", "vim") == 7
    refused = environ["QUERY_STRING"] == "refused"
    it.note("project", "vim", "legacy" if refused else "waited")
    if refused:
        raise UseLegacy("freshness")
    start_response("200 OK", [])
    return [b"python"]


def swallows(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A framework that makes a page of every exception."""
    it = wanted.get()
    assert it is not None
    it.note("project", "vim", "legacy")
    start_response("500 Internal Server Error", [])
    return [b"python"]


class Site:
    """A bridge in this process, and what its hooks were told."""

    def __init__(self, backend: Backend, clock: float) -> None:
        self.has = True
        routes = table(
            *(
                f"name: {name.replace('_', '-')}, path: /{name}, methods: [GET, HEAD, POST], "
                f"wsgi: '{__name__}:{name}', python: 100%{more}"
                for name, more in [
                    ("shows", ", reads: [project]"),
                    ("signs", ", reads: [project]"),
                    ("asks_store", ""),
                    ("swallows", ""),
                ]
            ),
            f"name: mine, path: /mine, wsgi: '{__name__}:shows', python: 0%",
            top=TOP.replace("forge.example", "localhost").replace(":8090", f":{backend.port}"),
        )
        self.outcomes: list[Outcome] = []
        told = self.outcomes

        class Tell(Hooks):
            def after_response(self, outcome: Outcome) -> None:
                told.append(replace(outcome))

        gate = Gate(
            KEYS,
            self.look,
            {"project": (), "user": ()},
            watch=lambda: None,
            patience=0.01,
            clock=lambda: clock,
        )
        self.dispatcher = Dispatcher(
            Front(lambda: routes, hooks=[Tell()], gate=gate, clock=lambda: clock)
        )
        self.client = Client(self.dispatcher, use_cookies=False)

    def look(self, entries: Sequence[Entry]) -> Collection[Entry]:
        return entries if self.has else ()

    def ask(
        self, path: str, cookie: str = "", method: str = "GET", body: bytes = b"", mode: str = ""
    ) -> TestResponse:
        headers = {"Cookie": cookie} if cookie else {}
        if mode:
            headers["Sec-Fetch-Mode"] = mode
        return self.client.open(path, method=method, headers=headers, data=body, buffered=True)

    @property
    def outcome(self) -> Outcome:
        return self.outcomes[-1]


@pytest.fixture(scope="module")
def legacy() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def backend(legacy: Backend) -> Iterator[Backend]:
    legacy.clear()
    seen.clear()
    for name in ("shows", "asks_store", "swallows", "mine"):
        legacy.when(f"/{name}", plain(body=b"legacy"))
    yield legacy
    legacy.clear()


@pytest.fixture
def site(backend: Backend) -> Iterator[Site]:
    found = Site(backend, NOW)
    yield found
    for pool in found.dispatcher.pools.all():
        pool.close()


def test_python_answers_when_the_mirror_has_the_edit(site: Site, backend: Backend) -> None:
    assert site.ask("/shows", f"bv={FRESH}").data == b"python"
    assert site.outcome.freshness == "at_once"
    assert backend.received == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_legacy_answers_when_it_has_not(site: Site, backend: Backend, method: str) -> None:
    site.has = False
    body = b"a=1" if method == "POST" else b""

    assert site.ask("/shows", f"a=1; bv={FRESH}", method, body).data == b"legacy"

    assert (site.outcome.fallback, site.outcome.freshness) == ("freshness", "legacy")
    assert seen == []
    assert backend.only().all("Cookie") == [f"a=1; bv={FRESH}"]
    assert backend.only().body == body


def test_legacy_gets_the_cookie_also_when_it_was_to_answer(site: Site, backend: Backend) -> None:
    answer = site.ask("/mine", f"bv={SETTLED}")
    assert backend.only().all("Cookie") == [f"bv={SETTLED}"]
    assert answer.headers.getlist("Set-Cookie") == []
    assert site.outcome.freshness == ""


@pytest.mark.parametrize("value", ["forged", f"{FRESH}x", "", FRESH.replace("~a1~", "~b2~")])
def test_a_cookie_that_is_not_sound_changes_nothing(site: Site, value: str) -> None:
    site.has = False
    assert site.ask("/shows", f"bv={value}").data == b"python"
    assert site.outcome.freshness == ""


@pytest.mark.parametrize(
    ("sent", "shown"),
    [(f"a=1; bv={FRESH}; b=2", "a=1; b=2"), (f"bv={FRESH}", None), ("a=1", "a=1")],
)
def test_handlers_do_not_see_the_cookie(site: Site, sent: str, shown: str | None) -> None:
    site.ask("/shows", sent)
    assert seen == [shown]


def test_a_second_cookie_of_the_name_does_not_hide_the_sound_one(site: Site) -> None:
    site.has = False
    assert site.ask("/shows", f"bv=other; bv={FRESH}").data == b"legacy"


def test_a_handler_without_reads_knows_what_is_wanted(site: Site) -> None:
    assert site.ask("/asks_store", f"bv={FRESH}").data == b"python"
    assert site.outcome.freshness == "waited"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_handler_without_reads_can_leave_it_to_legacy(site: Site, method: str) -> None:
    assert site.ask("/asks_store?refused", f"bv={FRESH}", method).data == b"legacy"
    assert (site.outcome.fallback, site.outcome.freshness) == ("freshness", "legacy")


def test_the_error_page_of_a_framework_for_it_is_counted_as_what_it_is(site: Site) -> None:
    assert site.ask("/swallows", f"bv={FRESH}").data == b"legacy"
    assert site.outcome.fallback == "freshness"


def test_the_cookie_ends_when_all_of_it_was_seen_and_is_not_for_shared_caches(site: Site) -> None:
    answer = site.ask("/shows", f"bv={SETTLED}")
    assert answer.headers.getlist("Set-Cookie") == [ENDED]
    assert answer.headers["Cache-Control"] == "private"


@pytest.mark.parametrize(
    "cookie", [FRESH, TWO, "forged"], ids=["just written", "not all seen", "not sound"]
)
def test_the_cookie_stays_until_then(site: Site, cookie: str) -> None:
    answer = site.ask("/shows", f"bv={cookie}")
    assert answer.headers.getlist("Set-Cookie") == []
    assert answer.headers["Cache-Control"] == "public, s-maxage=60"


@pytest.mark.parametrize(
    ("mode", "ends"), [("navigate", True), ("cors", False), ("no-cors", False)]
)
def test_only_a_page_that_is_opened_ends_the_cookie(site: Site, mode: str, ends: bool) -> None:
    """A script's request may be on its way while the visitor saves something new."""
    answer = site.ask("/shows", f"bv={SETTLED}", mode=mode)
    assert answer.headers.getlist("Set-Cookie") == [ENDED] * ends


def test_what_was_written_meanwhile_does_not_end_with_the_old_cookie(site: Site) -> None:
    assert site.ask("/signs", f"bv={SETTLED}").headers.getlist("Set-Cookie") == ["bv=anew"]


def test_without_a_gate_the_cookie_is_any_other_cookie(site: Site) -> None:
    site.dispatcher.front.gate = None
    site.has = False
    assert site.ask("/shows", f"bv={FRESH}").data == b"python"
    assert seen == [f"bv={FRESH}"]


def test_reads_must_be_names_of_entities_and_need_a_handler() -> None:
    for wrong in ("reads: [Project]", "reads: project", "reads: [project]"):
        handler = "" if wrong == "reads: [project]" else "handler: 'tests.proxy.site:view', "
        share = ", python: 0%" if handler else ""
        with pytest.raises(ConfigError, match="reads"):
            table(f"name: a, path: /a, {handler}{wrong}{share}")


def test_a_proxy_without_keys_needs_no_driver_of_mongodb() -> None:
    code = (
        "import sys, bridge.proxy.serve.server; print([m for m in sys.modules if m == 'pymongo'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
