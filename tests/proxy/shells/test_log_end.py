"""A visitor's own edit without PHP's help: after legacy has answered, the cookie says how far the
database's log went, and pages of Python wait for that. With a real MariaDB, in both shells.

The budget of a question is 20 ms, which a busy machine may spend; so edits are made again until a
question was answered in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.sync.gtid import Gtid
from bridge.sync.tokens import Entry, Keys, LogEnd, Token
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.waiting import wait_for
from tests.minimal_sync import write_sync
from tests.proxy.shells.conftest import COUNTING, _skip_without_apache
from tests.proxy.shells.double import BOUND, Backend, Call, Script, plain
from tests.proxy.shells.serving import HANDLERS, Bridge
from tests.proxy.shells.visitor import Answer, request
from tests.sync.link import Link

KEYS = Keys([("a1", "0123456789abcdef")])
FORGER = Keys([("a1", "another secret 1")])
ATTRIBUTES = "Max-Age=30; Path=/; HttpOnly; SameSite=Lax"

SYNC = """\
version: 1
entities:
  page: {collection: pages, source: {table: pages, key: id, log: true}}
  user: {collection: users}
"""

ROUTES = """\
  - {name: trashing, site: main, path: /trash, methods: [GET, HEAD, OPTIONS], writes: true}
""" + "".join(
    f"  - {{name: {entity}s, site: python, path: /{entity}s, wsgi: '{HANDLERS}:text', "
    f"python: 100%, reads: [{entity}]}}\n"
    for entity in ("page", "user")
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    folder = tmp_path_factory.mktemp("mariadb-log")
    options = ["--log-bin=bin", "--server-id=7", "--binlog-format=ROW"]
    with MariaDB(folder, grants=True, options=options) as server:
        server.execute("CREATE TABLE bridge.pages (id INT AUTO_INCREMENT PRIMARY KEY)")
        yield server


@pytest.fixture(scope="module")
def link(database: MariaDB) -> Iterator[Link]:
    """The bridge's way to the database."""
    with Link(database.port) as link:
        yield link


@pytest.fixture(scope="module")
def mirror(mongodb: Mongod) -> Iterator[Any]:
    with mongodb.client() as client:
        yield client["own_edit"]
        client.drop_database("own_edit")


@pytest.fixture(scope="module")
def asking_bridge(
    tmp_path_factory: pytest.TempPathFactory,
    double: Backend,
    link: Link,
    mongodb: Mongod,
    engine: str,
) -> Iterator[Bridge]:
    """A bridge for a site whose pages come from the log."""
    _skip_without_apache(engine)
    home = tmp_path_factory.mktemp(f"asking-{engine}")
    env = {
        "BRIDGE_SYNC": str(write_sync(home, SYNC)),
        "BRIDGE_SQL_URL": f"mysql://root@127.0.0.1:{link.port}/bridge",
        "BRIDGE_MONGODB_URL": mongodb.url_of("own_edit"),
        "BRIDGE_FRESHNESS_KEYS": "a1:0123456789abcdef",
    }
    places = {"DOUBLE": f"http://127.0.0.1:{double.port}"}
    bridge = Bridge(home / "bridge", places, env=env, engine=engine, app=COUNTING)
    with bridge.routes.open("a", encoding="utf-8") as routes:
        routes.write(ROUTES)
    bridge.start()
    yield bridge
    bridge.stop()


@pytest.fixture
def bridge(asking_bridge: Bridge, backend: Backend) -> Iterator[Bridge]:
    asking_bridge.mark()
    yield asking_bridge
    assert "bug in the proxy" not in asking_bridge.errors()
    assert asking_bridge.server.alive


class Site:
    """Legacy, which commits something and then answers."""

    def __init__(self, bridge: Bridge, backend: Backend, database: MariaDB) -> None:
        self.bridge, self.backend, self.database = bridge, backend, database
        self.gtid = Gtid("0", 7, 0)

    def commit(self) -> None:
        self.database.execute("INSERT INTO bridge.pages VALUES ()")
        [(text,)] = self.database.execute("SELECT @@gtid_binlog_pos")
        found = Gtid.parse(text)
        assert found is not None
        self.gtid = found

    def writes(self, path: str, raw: bytes) -> None:
        """Commit before the answer to this path."""

        def script(call: Call) -> None:
            call.body()
            self.commit()
            call.send(raw)

        self.backend.when(path, script)

    def ask(self, method: str, path: str, *lines: str, **more: Any) -> tuple[Answer, str]:
        """The answer, and what became of the question for the log's end."""
        self.bridge.mark()
        got = self.bridge.ask(method, path, *lines, **more)
        return got, self.bridge.outcome(path).get("log_end", "")

    def edit(self, method: str, path: str, *lines: str, **more: Any) -> Answer:
        """Ask until the question was answered in time."""

        def once() -> Answer | None:
            got, how = self.ask(method, path, *lines, **more)
            assert how in ("asked", "late", "away")
            return got if how == "asked" else None

        found: Answer = wait_for(once, 120, "a question that is answered in time")
        return found


@pytest.fixture
def site(bridge: Bridge, backend: Backend, database: MariaDB) -> Site:
    return Site(bridge, backend, database)


def given(answer: Answer) -> tuple[Token, str]:
    """What the one cookie `bv` of an answer says, and its attributes."""
    [cookie] = [one for one in answer.all("Set-Cookie") if one.startswith("bv=")]
    token, _, attributes = cookie.removeprefix("bv=").partition("; ")
    return KEYS.read(token, time.time()), attributes


def mirrored(mirror: Any, gtid: Gtid, **more: Any) -> None:
    """The mirror has come so far with the log."""
    position = {"epoch": 1, "gtid": str(gtid)}
    state = {"position": position, "follows": ["page"], "beat": datetime.now(UTC), **more}
    mirror.bridge_state.replace_one({"_id": "log"}, state, upsert=True)


# When


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/save", "200 OK"),
        ("POST", "/save", "302 Found"),
        ("POST", "/save", "404 Not Found"),
        ("POST", "/save", "500 Oh"),
        ("POST", "/save", "204 No Content"),
        ("PUT", "/save", "201 Created"),
        ("DELETE", "/save", "200 OK"),
        ("MKCOL", "/save", "200 OK"),
        ("GET", "/save", "302 Found"),
        ("GET", "/save", "301 Moved Permanently"),
        ("HEAD", "/save", "303 See Other"),
        ("GET", "/trash", "200 OK"),
        ("HEAD", "/trash", "200 OK"),
        ("OPTIONS", "/trash", "200 OK"),
    ],
)
def test_the_cookie_says_how_far_the_log_went_when_legacy_had_answered(
    site: Site, method: str, path: str, status: str
) -> None:
    there = ["Location: /there"] if status[0] == "3" else []
    site.writes(path, plain(status, *there, body=b"", length=status[:3] != "204"))
    got = site.edit(method, path)
    found, attributes = given(got)
    assert found.end is not None
    assert (found.end.gtid, found.entries) == (site.gtid, ())
    assert (attributes, got.get("Cache-Control")) == (ATTRIBUTES, "private")


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("GET", "200 OK"),
        ("GET", "404 Not Found"),
        ("GET", "304 Not Modified"),
        ("GET", "300 Multiple Choices"),
        ("HEAD", "200 OK"),
        ("OPTIONS", "200 OK"),
    ],
)
def test_of_what_writes_nothing_nobody_is_asked_and_nothing_is_changed(
    site: Site, method: str, status: str
) -> None:
    site.backend.when("/page", plain(status, "Cache-Control: public, max-age=9", body=b""))
    got, how = site.ask(method, "/page")
    assert (how, got.all("Set-Cookie")) == ("", [])
    assert got.get("Cache-Control") == "public, max-age=9"


# With what others say in the same cookie


def vim() -> Entry:
    """Something that PHP says was written just now."""
    return Entry("project", "vim", 7, int(time.time()))


def bash() -> Entry:
    """The same, a moment before."""
    return Entry("project", "bash", 3, int(time.time()) - 3)


def test_what_the_visitor_has_of_php_stays(site: Site) -> None:
    one = vim()
    site.writes("/save", plain())
    got = site.edit("POST", "/save", f"Cookie: a=1; bv={KEYS.sign([one])}")
    assert given(got)[0].entries == (one,)


def test_what_php_gives_in_this_answer_counts_too_and_goes_where_php_sends_it(site: Site) -> None:
    one, other = vim(), bash()
    cookie = f"Set-Cookie: bv={KEYS.sign([one])}; Max-Age=30; Path=/shop; Domain=main.test"
    site.writes("/save", plain("302 Found", cookie, "Set-Cookie: session=1", "Location: /"))
    old = KEYS.sign([other], LogEnd(Gtid("0", 7, 1), int(time.time())))
    got = site.edit("POST", "/save", f"Cookie: bv={old}")
    found, attributes = given(got)
    assert found.end is not None
    assert (found.end.gtid, found.entries) == (site.gtid, (one, other))
    assert attributes == "Max-Age=30; Path=/shop; Domain=main.test"
    assert "session=1" in got.all("Set-Cookie")


def test_a_cookie_of_php_does_not_take_the_end_from_the_visitor(site: Site) -> None:
    """On a page that nobody asks the database for."""
    one, other = vim(), bash()
    site.backend.when("/page", plain("200 OK", f"Set-Cookie: bv={KEYS.sign([one])}; Path=/"))
    now = int(time.time())
    for number in (1, None, 2, None):  # the same head, for several visitors
        end = LogEnd(Gtid("0", 7, number), now) if number else None
        has = [other] if number else []
        got, how = site.ask("GET", "/page", f"Cookie: bv={KEYS.sign(has, end)}")
        assert (how, given(got)) == ("", (Token((one, *has), end), "Path=/"))


def test_a_cookie_that_legacy_ends_does_not_end_the_new_one(site: Site) -> None:
    """As at a logout, which clears all cookies; the browser keeps the last one of a name."""
    ended = "bv=deleted; Max-Age=0; Path=/"
    site.writes("/save", plain("200 OK", f"Set-Cookie: {ended}"))
    got = site.edit("POST", "/save", f"Cookie: bv={FORGER.sign([vim()])}")
    first, last = got.all("Set-Cookie")
    found = KEYS.read(last.removeprefix("bv=").partition(";")[0], time.time())
    assert first == ended
    assert found.end is not None
    assert (found.end.gtid, found.entries) == (site.gtid, ())


# The answer itself


def cut_up(raw: bytes, size: int = 50_000) -> Script:
    def script(call: Call) -> None:
        call.body()
        for at in range(0, len(raw), size):
            call.send(raw[at : at + size])

    return script


BODY = bytes(range(256)) * 4096
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(piece), piece)
    for piece in (BODY[at : at + 9999] for at in range(0, len(BODY), 9999))
)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "raw",
    [plain(body=BODY), CHUNKED + b"0\r\n\r\n", CHUNKED + b"0\r\nX-Sum: 1\r\n\r\n"],
    ids=["length", "chunked", "trailers"],
)
def test_the_body_comes_whole_after_the_head_that_waited(
    site: Site, raw: bytes, version: str
) -> None:
    site.backend.when("/save", cut_up(raw))
    got = site.edit("POST", "/save", body=b"x" * 200_000, version=version)
    assert got.whole
    assert got.body == BODY
    assert given(got)[0].end is not None


def test_a_body_that_ends_with_the_connection_comes_whole(site: Site) -> None:
    def script(call: Call) -> None:
        cut_up(plain(body=BODY, length=False))(call)
        call.close()

    site.backend.when("/save", script)
    assert site.edit("POST", "/save").body == BODY


def test_a_body_that_breaks_off_is_cut_for_the_visitor_too(site: Site) -> None:
    def script(call: Call) -> None:
        call.body()
        call.send(plain(body=BODY)[:200_000])
        call.reset()

    site.backend.when("/save", script)
    got = site.edit("POST", "/save")
    assert (got.status, got.whole) == (200, False)


def test_hints_come_before_the_head_that_waits(site: Site, engine: str) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    site.backend.when("/save", hints + plain(body=b"final"))
    got = site.edit("POST", "/save")
    assert [early.status for early in got.interim] == ([103] if engine != "mod_wsgi" else [])
    assert got.body == b"final"


def test_requests_that_follow_on_the_connection_are_answered_in_order(site: Site) -> None:
    for number in range(6):
        site.backend.when(f"/{number}", plain(body=b"%d" % number))
    with site.bridge.visitor() as visitor:
        sent = [request("GET" if n % 2 else "POST", f"/{n}") for n in range(6)]
        visitor.send(b"".join(sent))
        assert [visitor.answer().body for _ in sent] == [b"%d" % number for number in range(6)]


def test_an_answer_that_legacy_does_not_give_is_not_asked_for(site: Site) -> None:
    site.backend.when("/save", lambda call: call.close())
    got, how = site.ask("POST", "/save")
    assert (got.status, how, got.all("Set-Cookie")) == (502, "", [])


# A database that is slow


def test_while_the_database_is_silent_legacy_answers_who_has_written(
    site: Site, link: Link, mirror: Any
) -> None:
    site.backend.when("/save", plain(body=b"saved"))
    site.backend.when("/pages", plain(body=b"legacy"))
    site.edit("POST", "/save")
    mirrored(mirror, Gtid("0", 7, 10**9))
    link.freeze()
    try:
        got, how = site.ask("POST", "/save")
        assert (got.status, got.body, how in ("late", "away")) == (200, b"saved", True)
        end = given(got)[0].end
        assert end is not None
        assert end.gtid is None
        cookie = f"Cookie: bv={KEYS.sign([], end)}"
        assert site.bridge.ask("GET", "/pages", cookie, host="python.test").body == b"legacy"

        def away() -> bool:
            got, how = site.ask("POST", "/save")
            assert got.body == b"saved"
            return how == "away"

        wait_for(away, 60, "it to count as away")
    finally:
        link.thaw()
    found = given(site.edit("POST", "/save"))[0]
    assert found.end is not None
    assert "visitors' cookies do not say where the log ends" in site.bridge.server.log_text()


def test_visitors_who_leave_meanwhile_leave_nothing_behind(
    site: Site, link: Link, double: Backend
) -> None:
    for path in ("/save", "/leave"):
        site.backend.when(path, plain(body=BODY))
    site.edit("POST", "/save")
    link.freeze()
    try:
        for count in range(1, 51):
            visitor = site.bridge.visitor()
            visitor.send(request("POST", "/leave"))
            site.backend.wait("/leave", count)
            visitor.leave()
    finally:
        link.thaw()
    assert site.edit("POST", "/save").body == BODY
    wait_for(lambda: double.open <= 4, BOUND, "legacy's connections to be given back")


# And then


@pytest.fixture
def posts(site: Site) -> Callable[[], str]:
    """A visitor who saves something: their cookie."""
    site.writes("/save", plain("302 Found", "Location: /pages"))

    def _posts() -> str:
        got = site.edit("POST", "/save", host="python.test")
        return next(c for c in got.all("Set-Cookie") if c.startswith("bv=")).partition(";")[0]

    return _posts


def test_python_answers_them_when_the_mirror_has_come_so_far_and_legacy_before(
    site: Site, posts: Callable[[], str], mirror: Any
) -> None:
    site.backend.when("/pages", plain(body=b"legacy"))
    cookie = posts()

    def page(*lines: str) -> tuple[bytes, str]:
        site.bridge.mark()
        got = site.bridge.ask("GET", "/pages", *lines, host="python.test")
        return got.body, site.bridge.outcome("/pages").get("freshness", "")

    mirrored(mirror, Gtid("0", 7, site.gtid.sequence - 1))
    assert page(f"Cookie: {cookie}") == (b"legacy", "legacy")
    assert page() == (b"python", "")
    mirrored(mirror, site.gtid, dirty={"page": {"since": str(site.gtid)}})
    assert page(f"Cookie: {cookie}") == (b"legacy", "legacy")
    mirrored(mirror, site.gtid)
    wait_for(lambda: page(f"Cookie: {cookie}") == (b"python", "at_once"), BOUND, "Python's answer")


def test_pages_of_what_does_not_come_from_the_log_are_not_held_up(
    site: Site, posts: Callable[[], str], mirror: Any
) -> None:
    cookie = posts()
    mirrored(mirror, Gtid("0", 7, 1))
    got = site.bridge.ask("GET", "/users", f"Cookie: {cookie}", host="python.test")
    assert (got.body, got.all("Set-Cookie")) == (b"python", [])
