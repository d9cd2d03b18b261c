"""No verb ends with a traceback: not for whoever may not read something, not for odd words."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.cli import cli
from bridge.cli.output import visible
from bridge.errors import BridgeError
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry import metrics, scrape
from bridge.proxy.telemetry import workers as status
from bridge.proxy.tools.flip import flip
from bridge.queue.vitals import Vitals
from tests.proxy.site import TOP, route

VERBS = {
    "status": ["status"],
    "doctor": ["doctor"],
    "routes": ["routes"],
    "history": ["history"],
    "explain": ["explain", "GET", "/p/a"],
    "check": ["check"],
    "preview": ["preview", "page", "python"],
    "flip": ["flip", "page", "0%", "--why", "back", "--watch", "0s"],
}


def run(words: list[str], file: Path, **env: str) -> Result:
    """In this process, with nothing else of this environment."""
    unset = {name: None for name in os.environ if name.startswith("BRIDGE_")}
    own = {"BRIDGE_ROUTES": str(file), "BRIDGE_STATE_DIR": str(file.parent / "state"), **env}
    return CliRunner().invoke(cli, words, env={**unset, "BRIDGE_SECRET": "0123456789abcdef", **own})


def ended_well(done: Result) -> bool:
    """Whether it ended with an exit code, or an error that `main` makes one of."""
    return done.exception is None or isinstance(done.exception, SystemExit | BridgeError)


@pytest.fixture
def site() -> Iterator[Path]:
    """A site in a folder that everybody may look into, and what is there when it is served."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        file = Path(name) / "routes.yaml"
        file.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
        flip(file, "page", "40%", who="me", why="first")
        state = file.parent / "state"
        status.write(state, 0, Reloader(file))
        scrape.prepare(state)
        metrics.Metrics(state, 0).close()
        with Vitals(state, "worker", dict):
            dead = state / "queue" / "worker-0.json"
            dead.write_text((state / "queue" / f"worker-{os.getpid()}.json").read_text())
            dead.write_text(dead.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194304'))
            yield file


@contextmanager
def stranger(closed: Path, mode: int) -> Iterator[None]:
    """Somebody who may do with `closed` what others may with this mode."""
    before = closed.stat().st_mode
    closed.chmod(mode if os.geteuid() == 0 else mode << 6)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        closed.chmod(before)


@pytest.mark.parametrize("mode", [0o000, 0o004, 0o005], ids=["closed", "names only", "no writing"])
@pytest.mark.parametrize(
    "closed",
    [
        "",
        "routes.yaml",
        "routes.history.jsonl",
        ".routes.yaml.lock",
        "state",
        "state/workers",
        "state/metrics",
        "state/metrics/0.cells",
        "state/queue",
    ],
)
def test_whoever_may_not_look_is_told_so(
    site: Path, closed: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.proxy.tools.live._LIVE_WITHIN", 0.1)  # no worker is there
    for words in VERBS.values():  # what a verb imports, a stranger may not read either
        run(words, site)
    with stranger(site.parent / closed, mode):
        done = {verb: run(words, site) for verb, words in VERBS.items()}
    failed = {verb: one.exception for verb, one in done.items() if not ended_well(one)}
    assert failed == {}


words = st.one_of(
    st.text(max_size=30),
    st.text(st.sampled_from("[]:/@%?#\\ \x00\udcffé1a."), max_size=20),
    st.from_regex(r"https?://[\[\]:a1@.%]{0,8}(/x)?", fullmatch=True),
)


@settings(max_examples=80, deadline=None)
@given(url=words, method=st.one_of(st.just("GET"), words), header=words, peer=words)
@example(url="http://[::1/x", method="GET", header="a: b", peer="127.0.0.1")
@example(url="/\udcff", method="GET", header="a: b", peer="127.0.0.1")
@example(url="/p/a", method="GET", header="Host: [", peer="\udcff")
def test_explain_takes_any_words(
    tmp_path_factory: pytest.TempPathFactory, url: str, method: str, header: str, peer: str
) -> None:
    file = tmp_path_factory.mktemp("any") / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
    for more in ([], ["-o", "json"]):
        given_words = ["explain", *more, "--header", header, "--from", peer, "--", method, url]
        done = run(given_words, file)
        assert ended_well(done), done.exception
        done.output.encode()
        if more and done.exit_code == 0:
            json.loads(done.stdout)


@settings(max_examples=60, deadline=None)
@given(url=words)
@example(url="http://[::1/x")
@example(url="/\udcff")
def test_check_follow_takes_any_address(tmp_path_factory: pytest.TempPathFactory, url: str) -> None:
    file = tmp_path_factory.mktemp("any") / "routes.yaml"
    file.write_text(TOP.replace("http://127.0.0.1:8090", "unix:/nobody/listens"))
    done = run(["check", "--follow", "--", url], file)
    assert ended_well(done), done.exception


@settings(max_examples=60, deadline=None)
@given(
    number=st.one_of(st.integers(0, 10**30), st.integers(0, 10**400)), unit=st.sampled_from("smhd")
)
@example(number=999999999, unit="d")
def test_a_preview_lasts_for_a_time_that_browsers_bear(
    tmp_path_factory: pytest.TempPathFactory, number: int, unit: str
) -> None:
    file = tmp_path_factory.mktemp("any") / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
    done = run(["preview", "page", "python", "--for", f"{number}{unit}"], file)
    assert ended_well(done), done.exception
    seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert (done.exit_code == 0) is (1 <= seconds <= 400 * 86400)


CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0xDCFF)]


@settings(max_examples=60, deadline=None)
@given(why=st.text(st.sampled_from([*CONTROLS, "a", "é", "😀"]), min_size=1, max_size=12))
@example(why="\x1b[2Jgone\x9b1m")
def test_history_moves_no_cursor(tmp_path_factory: pytest.TempPathFactory, why: str) -> None:
    """What somebody gave as a reason is shown, and does nothing to the terminal."""
    file = tmp_path_factory.mktemp("any") / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
    flip(file, "page", "40%", who=f"me{why}", why=f"x{why}")
    for more in ([], ["-o", "json"]):
        done = run(["history", *more], file)
        assert done.exit_code == 0, done.exception
        assert not set(CONTROLS) - {"\n", "\t"} & set(done.output) - {"\n", "\t"}
    assert json.loads(done.output)[0]["why"] == f"x{why}".encode("utf-8", "surrogateescape").decode(
        "utf-8", "replace"
    )


@settings(deadline=None)
@given(st.text())
def test_what_is_fit_for_a_terminal_stays(text: str) -> None:
    shown = visible(text)
    assert not set(shown) & (set(CONTROLS) - {"\n", "\t"})
    if not set(text) & set(CONTROLS):
        assert shown == text or any(not sign.isprintable() for sign in text)


@pytest.mark.parametrize(
    "place", ["closed/access.log", "folder", "file/access.log", "folder/typo/access.log"]
)
def test_serve_says_that_it_cannot_write_its_log(tmp_path: Path, place: str) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>', '50%')}}}\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    path = Path("/proc/access.log") if place.startswith("closed") else tmp_path / place
    done = run(["serve", "--bind", "127.0.0.1:0", "--access-log", str(path)], file)
    assert isinstance(done.exception, BridgeError)
    assert f"the access log {path} cannot be written" in str(done.exception)
    assert "choose another --access-log" in str(done.exception)
    assert not (tmp_path / "folder" / "typo").exists()
    assert ("make the folder" in str(done.exception)) is ("typo" in place)
    assert not (tmp_path / "state").exists(), "nothing was begun"


@pytest.mark.parametrize(("mode", "state"), [(0o755, "note"), (0o777, ""), (0o700, "bad")])
def test_doctor_bears_a_state_directory_that_is_the_services(
    site: Path, mode: int, state: str
) -> None:
    """An operator reads it and no more, and that is well; who may not read it is told so."""
    run(["doctor"], site)
    directory = site.parent / "state"
    if os.geteuid():
        pytest.skip("only root can be another user")
    with stranger(directory, mode):
        done = run(["doctor", "-o", "json"], site)
    found = [one for one in json.loads(done.stdout) if one["what"] == "state directory"]
    assert [one["state"] for one in found] == ([state] if state else [])
    if state == "note":
        assert found[0]["says"].startswith("belongs to root;")


def test_doctor_says_that_an_own_state_directory_cannot_be_written(site: Path) -> None:
    directory = site.parent / "state"
    if os.geteuid():
        pytest.skip("only root can be another user")
    os.chown(directory, 65534, 65534)
    run(["doctor"], site)
    with stranger(directory, 0o500):
        done = run(["doctor", "-o", "json"], site)
    (found,) = (one for one in json.loads(done.stdout) if one["what"] == "state directory")
    assert (found["state"], done.exit_code) == ("bad", 1)
    assert found["do"] == f"chmod u+rwx {directory}"
