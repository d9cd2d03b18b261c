"""`bridgectl flip` and `bridgectl preview`: who gets which side, while visitors come and go."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from bridge.proxy.decision import preview
from bridge.proxy.request.cookies import PREVIEW_COOKIE
from stack.php import PhpServer
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.bridge_site import HERE, BridgeSite
from tests.acceptance.raw_http import Answer, RawConnection, ask, request
from tests.acceptance.visitors import Visitors

pytestmark = pytest.mark.acceptance

SECRET = "only for tests"

# The layout is odd on purpose: a flip changes one number and nothing else.
ROUTES = """\
# Who answers what. – Grüße
version: 1
sites:
    s: {hosts: ["@ADDRESS@"],   legacy: php}   # two blanks, and a comment

backends: {php: {url: "@PHP@"}}
groups:
    pages:
        python:    0%      # the lists\t
routes:
  - name: project          # the first one
    path: /project/<name>
    handler: tests.acceptance.apps.handlers:hello
    python: "0%"           # quoted
  - {name: release, path: "/release/<name>", handler: "tests.acceptance.apps.handlers:hello", python: 0%}
  - {name: front, path: /front, handler: "late_views:front", group: pages}
  - {name: admin, path: /admin}
# the end, without a line end"""  # noqa: E501

VIEW = "from tests.acceptance.apps.handlers import hello as front\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, php: PhpServer) -> Iterator[BridgeSite]:
    directory = tmp_path_factory.mktemp("flip")
    code = directory / "code"
    code.mkdir()
    (code / "late_views.py").write_text(VIEW, encoding="utf-8")
    env = {"BRIDGE_SECRET": SECRET, "PYTHONPATH": f"{REPOSITORY}:{code}"}
    with BridgeSite(directory, ROUTES.replace("@PHP@", php.url), workers=2, env=env) as site:
        yield site


@pytest.fixture
def site(running: BridgeSite, php: PhpServer) -> BridgeSite:
    """Every route at 0% in both workers, and no history."""
    running.write(ROUTES.replace("@PHP@", php.url))
    history_of(running).unlink(missing_ok=True)
    rows = {"project": "0%", "release": "0%", "front": "0%", "admin": "–"}
    running.live(lambda w: shares_of(w.rows) == rows and not w.error, 5, "every route at 0%")
    return running


def shares_of(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["route"]: row["python"] for row in rows}


def history_of(site: BridgeSite) -> Path:
    return site.routes.with_name("routes.history.jsonl")


def get(site: BridgeSite, target: str, cookie: str = "") -> Answer:
    headers = {"Cookie": cookie} if cookie else {}
    return ask(site.address, request("GET", target, site.address, headers))


def side_of(answer: Answer) -> str:
    assert answer.status == 200
    side = "python" if answer.body.startswith(b"python") else "legacy"
    assert answer.get("X-Side") == side
    return side


# --- flipping


def test_a_flip_changes_exactly_one_number(site: BridgeSite) -> None:
    before = site.routes.read_bytes()
    done = site.bridge("flip", "project", "12.5%", "--why", "a try", "--who", "anna")
    assert done.returncode == 0, done.stderr
    assert "0% → 12.5%" in done.stdout
    assert "live in 2 of 2 workers" in done.stdout
    assert site.routes.read_bytes() == before.replace(b'"0%" ', b'"12.5%" ')
    assert site.bridge("flip", "pages", "100%", "--why", "all").returncode == 0
    assert site.routes.read_bytes() == before.replace(b'"0%" ', b'"12.5%" ').replace(
        b"python:    0%      # the lists\t", b"python:    100%      # the lists\t"
    )
    assert site.bridge("flip", "pages", "0%", "--why", "back").returncode == 0
    assert site.bridge("flip", "project", "0%", "--why", "back").returncode == 0
    assert site.routes.read_bytes() == before


@pytest.mark.slow
def test_the_history_says_who_when_what_and_why(site: BridgeSite) -> None:
    begin = time.time()
    site.bridge_json(
        "flip", "release", "5%", "--who", "anna", "--why", "first “visitors”\nüber all"
    )
    site.bridge_json("flip", "release", "5%", "--who", "bert", "--why", "again")
    site.bridge_json("flip", "release", "0%", "--who", "bert", "--why", "undo")
    flips = site.bridge_json("history")
    told = [(flip["who"], flip["name"], flip["old"], flip["new"], flip["why"]) for flip in flips]
    assert told == [
        ("anna", "release", "0%", "5%", "first “visitors”\nüber all"),
        ("bert", "release", "5%", "0%", "undo"),
    ]
    for flip in flips:
        assert flip["at"].endswith("+00:00")
        assert begin - 1 <= datetime.fromisoformat(flip["at"]).timestamp() <= time.time()
    assert len(history_of(site).read_text(encoding="utf-8").splitlines()) == 2
    assert "anna" in site.bridge("history").stdout


def test_flipping_under_load_fails_no_request_and_is_live_when_it_says_so(
    site: BridgeSite,
) -> None:
    target = "/project/bash"
    with Visitors(site.address, *[[target, "/other"]] * 4) as visitors:
        for share, side in (("100%", "python"), ("0%", "legacy"), ("100%", "python")):
            seen = len(visitors.answers)
            assert site.bridge("flip", "project", share, "--why", "load").returncode == 0
            assert {side_of(get(site, target)) for _ in range(10)} == {side}
            wait_for(lambda seen=seen: len(visitors.answers) > seen + 50, what="more visitors")
    assert visitors.failures == []
    sides = [seen.headers["X-Side"] for seen in visitors.answers if seen.target == target]
    assert set(sides) == {"python", "legacy"}
    for seen in visitors.answers:
        python = seen.headers["X-Side"] == "python"
        wanted = b"python\n" if python else f"php GET {seen.target}\n".encode()
        assert seen.body.startswith(wanted)
        assert not (python and seen.target == "/other")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["projekt", "5%"], 5, "did you mean"),
        (["nothing-like-it", "5%"], 5, "known: pages, project, release, front, admin"),
        (["project", "101%"], 2, "no share"),
        (["project", "half"], 2, "no share"),
        (["project", "5"], 2, "write 5%"),
        (["project", "0.0001%"], 2, "no share"),
        (["front", "5%"], 5, "flips with its group"),
        (["admin", "5%"], 5, "no Python side"),
        (["project", "5%", "--why", "  "], 2, "say why"),
        (["project", "5%", "--why", ""], 2, "say why"),
        (["project", "5%", "--watch", "soon"], 2, "no duration"),
        (["ALL", "5%"], 2, "takes 0% only"),
        (["ALL", "0"], 2, "no share"),
        (["project"], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_flipped_is_refused_and_changes_nothing(
    site: BridgeSite, words: list[str], code: int, says: str
) -> None:
    before = site.routes.read_bytes()
    why = [] if "--why" in words else ["--why", "a try"]
    done = site.bridge("flip", *words, *why)
    assert (done.returncode, done.stdout) == (code, "")
    assert says.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert site.routes.read_bytes() == before
    assert not history_of(site).exists()


def test_a_broken_file_is_not_flipped(site: BridgeSite, php: PhpServer) -> None:
    broken = ROUTES.replace("@PHP@", php.url).replace("path: /admin", "pfad: /admin")
    site.write(broken)
    before = site.routes.read_bytes()
    done = site.bridge("flip", "project", "5%", "--why", "a try")
    assert done.returncode == 3
    assert "routes.yaml:17:" in done.stderr
    assert site.routes.read_bytes() == before
    assert not history_of(site).exists()


def test_what_runs_can_be_had_back_with_the_command_that_a_refused_flip_prints(
    site: BridgeSite, running: BridgeSite, php: PhpServer
) -> None:
    good = site.routes.read_bytes()
    for broken in (ROUTES.replace("@PHP@", php.url).replace("path: /admin", "pfad: /admin"), "{"):
        site.write(broken)
        done = site.bridge("flip", "ALL", "0%", "--why", "MongoDB is gone")
        assert done.returncode == 3
        command = done.stderr.rpartition("what runs: ")[2].strip()
        assert command.startswith("cp --remove-destination ")
        subprocess.run(shlex.split(command), check=True)
        assert site.routes.read_bytes() == good
    assert site.bridge("flip", "project", "0%", "--why", "back").returncode == 0


def test_a_route_whose_handler_stops_importing_is_not_flipped(
    site: BridgeSite, running: BridgeSite
) -> None:
    module = site.directory / "code" / "late_views.py"
    before = site.routes.read_bytes()
    module.write_text(VIEW + "import not_installed\n", encoding="utf-8")
    try:
        done = site.bridge("flip", "pages", "100%", "--why", "a try")
    finally:
        module.write_text(VIEW, encoding="utf-8")
    assert done.returncode == 3
    assert "routes.yaml:16:" in done.stderr
    assert "`not_installed`, which is not installed" in done.stderr
    assert "what runs" not in done.stderr
    assert site.routes.read_bytes() == before
    assert side_of(get(site, "/front")) == "legacy"


def test_two_flips_at_once_both_happen(site: BridgeSite) -> None:
    for share in ("100%", "30%"):
        flips = [
            subprocess.Popen(
                [*(sys.executable, "-m", "bridge", "flip"), name, share, "--why", "at once"],
                env={**site.server.environment()},
                cwd=HERE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for name in ("project", "release", "pages")
        ]
        said = [flip.communicate(timeout=30)[0] for flip in flips]
        assert all("0% → " in text and "live in 2 of 2 workers" in text for text in said), said
        assert [flip.returncode for flip in flips] == [0, 0, 0], said
        rows = {"project": share, "release": share, "front": share, "admin": "–"}
        site.live(lambda w, rows=rows: shares_of(w.rows) == rows, 1, "all three shares")
    assert len(site.bridge_json("history")) == 6


# --- preview


def cookie_for(site: BridgeSite, *words: str) -> str:
    cookie = site.bridge_json("preview", *words)["cookie"]
    assert isinstance(cookie, str)
    return cookie


def test_a_preview_cookie_picks_the_side_for_one_browser(site: BridgeSite) -> None:
    cookie = cookie_for(site, "project", "python")
    mine = get(site, "/project/bash", f"theme=dark; {cookie}")
    assert side_of(mine) == "python"
    assert "private" in (mine.get("Cache-Control") or "")
    assert "Cookie" in (mine.get("Vary") or "")
    theirs = get(site, "/project/bash", "theme=dark")
    assert side_of(theirs) == "legacy"
    assert "private" not in (theirs.get("Cache-Control") or "")
    assert side_of(get(site, "/release/bash", cookie)) == "legacy"
    assert side_of(get(site, "/release/bash", cookie_for(site, "ALL", "python"))) == "python"


def test_a_preview_cookie_leads_back_to_legacy_too(site: BridgeSite) -> None:
    site.bridge_json("flip", "project", "100%", "--why", "a try")
    cookie = cookie_for(site, "project", "legacy", "--for", "30m")
    answer = get(site, "/project/bash", f"a=1; {cookie}; b=2")
    assert side_of(answer) == "legacy"
    assert "private" in (answer.get("Cache-Control") or "")
    # The bridge's own cookie is no business of the PHP side.
    assert b"cookie=a=1; b=2\n" in answer.body
    assert side_of(get(site, "/project/bash")) == "python"


def test_a_preview_cookie_is_for_its_group(site: BridgeSite) -> None:
    cookie = cookie_for(site, "pages", "python")
    assert side_of(get(site, "/front", cookie)) == "python"
    assert side_of(get(site, "/project/bash", cookie)) == "legacy"


def test_a_forged_or_expired_preview_cookie_counts_for_nothing(site: BridgeSite) -> None:
    good = cookie_for(site, "project", "python")
    later, before = int(time.time()) + 3600, int(time.time()) - 1
    payload, _, signature = good.partition("=")[2].partition(".")
    forged = [
        f"{PREVIEW_COOKIE}={payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        f"{PREVIEW_COOKIE}={payload[:-1]}{'B' if payload[-1] == 'A' else 'A'}.{signature}",
        f"{PREVIEW_COOKIE}={payload}",
        f"{PREVIEW_COOKIE}=",
        f"{PREVIEW_COOKIE}=python",
        f"{PREVIEW_COOKIE}={preview.make('another secret', 'python', 'route:project', later)}",
        f"{PREVIEW_COOKIE}={preview.make(SECRET, 'python', 'route:project', before)}",
        f"{PREVIEW_COOKIE}={preview.make(SECRET, 'python', 'route:release', later)}",
    ]
    for cookie in forged:
        answer = get(site, "/project/bash", cookie)
        assert side_of(answer) == "legacy", cookie
        assert answer.get("Vary") is None
    assert side_of(get(site, "/project/bash", good)) == "python"


def test_without_a_secret_there_is_no_preview(site: BridgeSite) -> None:
    env = {**site.server.environment(), "BRIDGE_SECRET": ""}
    done = subprocess.run(
        [*(sys.executable, "-m", "bridge", "preview", "project", "python")],
        env=env,
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "set BRIDGE_SECRET" in done.stderr


# --- shares


def test_a_visitor_keeps_their_side_in_every_worker_and_after_a_restart(
    site: BridgeSite,
) -> None:
    site.bridge_json("flip", "project", "50%", "--why", "half")
    sides: dict[str, str] = {}
    for _ in range(30):
        first = get(site, "/project/bash")
        (given,) = first.all("Set-Cookie")
        assert "Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax" in given
        assert "private" in (first.get("Cache-Control") or "")
        sides[given.partition(";")[0]] = side_of(first)
    assert set(sides.values()) == {"python", "legacy"}

    pids: set[str] = set()

    def again() -> dict[str, str]:
        found = {}
        for cookie in sides:
            answers = [get(site, "/project/bash", cookie) for _ in range(3)]
            (found[cookie],) = {side_of(answer) for answer in answers}
            assert not any(answer.all("Set-Cookie") for answer in answers)
            pids.update(answer.get("X-Pid") or "" for answer in answers)
        return found

    assert again() == sides
    assert len(pids - {""}) == 2, "both workers answered"
    site.server.restart()
    wait_for(lambda: len(site.workers()) == 2, what="both workers")
    assert again() == sides
    assert len(pids - {""}) > 2, "they are new ones"


def test_who_came_at_five_percent_stays_at_ten_and_when_it_goes_back(site: BridgeSite) -> None:
    keys = [f"visitor-{number:04}" for number in range(400)]

    def python_side() -> set[str]:
        found = set()
        with RawConnection(site.address) as connection:
            for key in keys:
                headers = {"Cookie": f"bridge_share={key}"}
                connection.send(request("GET", "/project/bash", site.address, headers))
                if side_of(connection.answer()) == "python":
                    found.add(key)
        return found

    by_share = []
    for share in ("5%", "10%", "5%"):
        site.bridge_json("flip", "project", share, "--why", "ramp")
        by_share.append(python_side())
    five, ten, five_again = by_share
    assert five < ten
    assert five_again == five
    # Binomial with n = 400: these bounds are more than four standard deviations away.
    assert 4 <= len(five) <= 40
    assert 15 <= len(ten) <= 65


def test_everything_goes_back_to_legacy_at_once(site: BridgeSite) -> None:
    for name, share in (("project", "100%"), ("pages", "40%")):
        assert site.bridge("flip", name, share, "--why", "a try").returncode == 0
    assert side_of(get(site, "/project/a")) == "python"
    done = site.bridge("flip", "ALL", "0%", "--why", "the mirror is gone")
    assert done.returncode == 0, done.stderr
    assert "live in 2 of 2 workers" in done.stdout
    assert "undo: bridgectl flip project 100%" in done.stdout
    assert "undo: bridgectl flip pages 40%" in done.stdout
    site.live(lambda w: {*shares_of(w.rows).values()} == {"0%", "–"}, 1, "every route at 0%")
    assert side_of(get(site, "/project/a")) == "legacy"
    again = site.bridge("flip", "ALL", "0%", "--why", "once more")
    assert "nothing changed" in again.stdout
    assert site.bridge("flip", "ALL", "50%", "--why", "no").returncode == 2
