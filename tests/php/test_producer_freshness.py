"""freshness(): the cookie that lets visitors see their own edits. Its format: test_golden.py."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.sync.gtid import Gtid
from bridge.sync.tokens import Entry, Keys, LogEnd
from stack.php import PhpServer
from stack.ports import free_port
from tests.php.page_site import PRODUCER, SQL, Page

KEY = "a1:0123456789abcdef"
KEYS = Keys([("a1", "0123456789abcdef")])
FORGER = Keys([("a1", "another secret 1")])
SHOW = "echo json_encode(array($bridge->freshness(), $bridge->error()));"
OUTBOX = (
    "$db = new PDO('sqlite::memory:');"
    f"$db->exec(file_get_contents('{SQL}/outbox.sqlite.sql')); $db->beginTransaction();"
)


def seen(token: str) -> list[tuple[str, str, int]]:
    """What Python reads from a token, newest first."""
    return [(e.entity, e.key, e.version) for e in KEYS.verify(token, time.time())]


def spooling(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """Options of a producer whose events all arrive, without a server."""
    return {"port": free_port(), "spool_dir": str(tmp_path / "spool"), "freshness_key": KEY, **more}


def test_everything_that_was_taken_is_in_the_token_newest_first(page: Page, tmp_path: Path) -> None:
    printed = page(
        "$bridge->publish('project', 'changed', 'one', 1, array('n' => 1));"
        "$bridge->publishMany(array(array('project', 'deleted', 'two', 2),"
        " array('project', 'changed', \"caf\\xe9\", '9223372036854775807', array('n' => 1))));"
        "$bridge->spool('release', 'deleted', 44, 4);"
        + OUTBOX
        + "$bridge->enqueue($db, 'project', 'changed', 'five', 5, array('n' => 1));"
        + SHOW,
        **spooling(tmp_path),
    )

    token, error = json.loads(printed)
    assert error == ""
    assert seen(token) == [
        ("project", "five", 5),
        ("release", "44", 4),
        ("project", "café", 2**63 - 1),
        ("project", "two", 2),
        ("project", "one", 1),
    ]


def test_an_event_that_cannot_be_one_is_not_in_the_token(page: Page, tmp_path: Path) -> None:
    printed = page(
        "$bridge->publish('project', 'changed', 'one', -1, array('n' => 1));"
        "$bridge->spool('Project', 'deleted', 'one', 1);" + SHOW,
        **spooling(tmp_path),
    )

    assert json.loads(printed) == ["", ""]


def test_an_edit_that_could_not_be_delivered_is_seen_too(page: Page) -> None:
    """The database has it: until the mirror does, PHP must answer this visitor."""
    printed = page(
        "$bridge->publish('project', 'changed', 'one', 1, array('n' => 1));" + SHOW,
        port=free_port(),
        freshness_key=KEY,
    )

    assert seen(json.loads(printed)[0]) == [("project", "one", 1)]


def test_what_was_rolled_back_is_forgotten_and_what_was_committed_is_not(
    page: Page, tmp_path: Path
) -> None:
    printed = page(
        OUTBOX + "$row = array('n' => 1);"
        "$bridge->enqueue($db, 'project', 'changed', 'committed', 1, $row); $bridge->afterCommit();"
        "$bridge->enqueue($db, 'project', 'changed', 'rolled back', 2, $row);"
        "$bridge->afterRollback();"
        "$bridge->enqueue($db, 'project', 'changed', 'sent later', 3, $row);"
        "$bridge->freshness(); $bridge->afterRollback();" + SHOW,
        **spooling(tmp_path),
    )

    assert seen(json.loads(printed)[0]) == [
        ("project", "sent later", 3),
        ("project", "committed", 1),
    ]


def test_what_the_outbox_refused_is_not_in_the_token(page: Page, tmp_path: Path) -> None:
    printed = page(
        "$db = new PDO('sqlite::memory:');"
        "$bridge->enqueue($db, 'project', 'changed', 'one', 1, array('n' => 1));" + SHOW,
        **spooling(tmp_path),
    )

    assert json.loads(printed) == ["", ""]


@pytest.mark.parametrize(
    ("cookie", "also"),
    [
        (lambda now: KEYS.sign([Entry("project", "old", 3, now - 5)]), [("project", "old", 3)]),
        (lambda now: FORGER.sign([Entry("project", "o", 3, now)]), []),
        (lambda now: KEYS.sign([Entry("project", "old", 3, now - 300)]), []),
        (lambda now: KEYS.sign([Entry("project", "new", 1, now)]), []),
        (
            lambda now: KEYS.sign(
                [Entry("project", "old", 3, now - 5)], LogEnd(Gtid("0", 7, 42), now)
            ),
            [("project", "old", 3)],
        ),
        (lambda now: "nonsense", []),
    ],
    ids=["valid", "forged", "expired", "older", "with the end of a log", "broken"],
)
def test_the_visitors_own_cookie_is_carried_on_when_it_is_sound(
    cookie: Callable[[int], str], also: list[Any], page: Page, tmp_path: Path
) -> None:
    printed = page(
        f"$_COOKIE['bv'] = '{cookie(int(time.time()))}';"
        "$bridge->spool('project', 'deleted', 'new', 7);" + SHOW,
        **spooling(tmp_path),
    )

    token, error = json.loads(printed)
    assert (seen(token), error) == ([("project", "new", 7), *also], "")


def test_a_cookie_that_is_an_array_is_ignored(page: Page, tmp_path: Path) -> None:
    printed = page(
        "$_COOKIE['bv'] = array('x'); $bridge->spool('project', 'deleted', 'new', 7);" + SHOW,
        **spooling(tmp_path),
    )

    token, error = json.loads(printed)
    assert (seen(token), error) == ([("project", "new", 7)], "")


def test_a_hundred_edits_leave_the_newest_eight(page: Page, tmp_path: Path) -> None:
    printed = page(
        "for ($i = 0; $i < 100; $i++) { $bridge->spool('project', 'deleted', \"k$i\", $i); }"
        + SHOW,
        **spooling(tmp_path),
    )

    keys = [key for _, key, _ in seen(json.loads(printed)[0])]
    assert keys == [f"k{number}" for number in range(99, 91, -1)]


def test_without_a_key_nothing_happens(page: Page, tmp_path: Path) -> None:
    printed = page(
        "$bridge->spool('project', 'deleted', 'new', 7);" + SHOW,
        spool_dir=str(tmp_path / "spool"),
    )

    assert json.loads(printed) == ["", ""]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("0123456789abcdef", "id:secret"),
        ("A1:0123456789abcdef", "id:secret"),
        ("a1:short secret", "id:secret"),
        ("a1:tooshort", "16 characters"),
        ("a1:éééééééééé", "16 characters"),
    ],
)
def test_a_wrong_key_is_an_error_that_does_not_tell_it(
    key: str, words: str, page: Page, tmp_path: Path
) -> None:
    printed = page(
        "$done = $bridge->spool('project', 'deleted', 'new', 7);"
        "echo json_encode(array($done, $bridge->freshness(), $bridge->error()));",
        **spooling(tmp_path, freshness_key=key),
    )

    done, token, error = json.loads(printed)
    assert (done, token) == (True, "")
    assert words in error
    assert key.rpartition(":")[2] not in error


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """ask(code, headers, **options) -> the Set-Cookie lines of a page that runs `code`."""
    docroot = tmp_path / "htdocs"
    docroot.mkdir()
    with PhpServer(
        tmp_path / "php", docroot, workers=1, settings={"output_buffering": "0"}
    ) as server:

        def _ask(code: str, headers: dict[str, str] | None = None, **options: Any) -> list[str]:
            given = json.dumps(spooling(tmp_path, **options))
            (docroot / "page.php").write_text(
                f"<?php require {str(PRODUCER)!r};\n"
                f"$bridge = new BridgeProducer(json_decode({given!r}, true));\n"
                "$bridge->spool('project', 'deleted', 'new', 7);\n" + code,
                encoding="utf-8",
            )
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/page.php", headers=headers or {})
            answer = connection.getresponse()
            assert answer.read().decode() == "page"
            lines = answer.headers.get_all("Set-Cookie") or []
            connection.close()
            return lines

        yield _ask


def attributes(line: str) -> str:
    """A Set-Cookie line with its token checked and replaced."""
    pair, _, rest = line.partition("; ")
    name, _, token = pair.partition("=")
    assert seen(token) == [("project", "new", 7)]
    return f"{name}=…; {rest}"


PAGE = "$bridge->freshness(); echo 'page';"


def test_the_cookie_is_for_thirty_seconds_for_the_whole_site_and_for_no_script(ask: Any) -> None:
    assert list(map(attributes, ask(PAGE))) == ["bv=…; Max-Age=30; Path=/; SameSite=Lax; HttpOnly"]


def test_the_sites_own_cookies_stay(ask: Any) -> None:
    lines = ask("setcookie('PHPSESSID', 'x');" + PAGE)
    assert [line.partition("=")[0] for line in lines] == ["PHPSESSID", "bv"]


def test_calling_it_twice_sets_one_cookie(ask: Any) -> None:
    assert len(ask("$bridge->freshness();" + PAGE)) == 1


@pytest.mark.parametrize("proto", ["https", "HTTPS"])
def test_behind_a_proxy_that_speaks_https_the_cookie_is_secure(proto: str, ask: Any) -> None:
    (line,) = ask(PAGE, {"X-Forwarded-Proto": proto})
    assert attributes(line).endswith("; HttpOnly; Secure")


def test_path_domain_and_the_rest_are_the_sites_choice(ask: Any) -> None:
    (line,) = ask(
        PAGE,
        freshness_cookie={
            "path": "/shop",
            "domain": "example.org",
            "secure": True,
            "httponly": False,
            "samesite": "",
        },
    )
    assert attributes(line) == "bv=…; Max-Age=30; Path=/shop; Domain=example.org; Secure"


def test_an_option_that_would_break_the_header_sets_no_cookie(ask: Any) -> None:
    assert ask(PAGE, freshness_cookie={"path": "/; Domain=evil"}) == []


def test_after_output_has_begun_the_page_is_undisturbed_and_error_says_so(ask: Any) -> None:
    code = (
        "echo 'pa'; flush(); $token = $bridge->freshness();"
        "echo $token !== '' && strpos($bridge->error(), 'output') ? 'ge' : $bridge->error();"
    )
    assert ask(code) == []


def test_what_is_published_after_the_answer_is_in_the_token_before(
    page: Page, tmp_path: Path
) -> None:
    printed = page(
        "$later = array(array('project', 'changed', 'one', 1, array('n' => 1)),"
        " array('project', 'deleted', 2, '2'));"
        "echo json_encode(array($bridge->freshness($later), $bridge->error()));",
        **spooling(tmp_path),
    )

    token, error = json.loads(printed)
    assert (seen(token), error) == ([("project", "2", 2), ("project", "one", 1)], "")


def test_what_can_never_be_published_is_an_error(page: Page, tmp_path: Path) -> None:
    printed = page(
        "$later = array(array('project', 'changed', 'one'));"
        "echo json_encode(array($bridge->freshness($later), $bridge->error()));",
        **spooling(tmp_path),
    )

    token, error = json.loads(printed)
    assert token == ""
    assert "version must be" in error
