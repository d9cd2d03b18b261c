"""The command line as people and programs use it: texts, JSON, exit codes, no tracebacks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.minimal_sync import write_sync
from tests.proxy.site import TOP, VIEW

GOOD = f'{TOP}  - {{name: page, path: "/p/<name>", handler: "{VIEW}", python: 0%}}\n'


def bridge(
    *words: str, file: Path, expect: int = 0, **env: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BRIDGE_ROUTES": str(file), "BRIDGE_STATE_DIR": "", **env}
    environment["PYTHONPATH"] = os.getcwd()
    command = [sys.executable, "-m", "bridge", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode == expect, done.stderr or done.stdout
    return done


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(GOOD)
    return path


def test_check_says_that_a_good_file_is_good(file: Path) -> None:
    assert "is good: 1 route, table " in bridge("check", file=file).stdout
    assert json.loads(bridge("check", "-o", "json", file=file).stdout)["ok"] is True


def test_check_names_errors_with_places_and_exits_with_3(file: Path) -> None:
    file.write_text(GOOD.replace("python: 0%", "pyton: 0%"))
    done = bridge("check", file=file, expect=3)
    assert f"{file}:10:" in done.stderr
    assert "did you mean `python`?" in done.stderr
    found = json.loads(bridge("check", "-o", "json", file=file, expect=3).stdout)
    assert found["errors"][0]["line"] == 10


ODD = f'  - {{{{name: odd, path: "/x//{{}}", handler: "{VIEW}", python: 0%}}}}\n'
"""A route that nothing can reach."""


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    "broken",
    [
        '  - {name: b, path: "/b", handler: "no.such:module", python: 0%}\n',
        '  - {name: b, path: "/b", pyton: 0%}\n',
        '  - name: b\n    path: "/b/<"\n    pyton: 0%\n',
        '  - {name: page, path: "/again"}\n',
    ],
    ids=["handler", "key", "path", "name"],
)
def test_check_shows_warnings_beside_errors(file: Path, broken: str, place: str) -> None:
    """About the routes that have no error, in their lines."""
    odd = ODD.format("y")
    file.write_text(GOOD + (odd + broken if place == "before" else broken + odd))
    line = 1 + file.read_text().splitlines().index(odd.rstrip("\n"))
    said = bridge("check", file=file, expect=3).stderr
    assert f"{file}:{line}:" in said
    assert "warning: route `odd`: nothing can reach it" in said
    assert f" in {file}" in said.splitlines()[-1]
    found = json.loads(bridge("check", "-o", "json", file=file, expect=3).stdout)
    assert [one["line"] for one in found["warnings"]] == [line]


@pytest.mark.parametrize("text", ["", "routes: [", "version: 1\nroutes: 5\n", "version: 9\n"])
def test_what_cannot_be_looked_at_has_errors_only(file: Path, text: str) -> None:
    file.write_text(text)
    assert "warning" not in bridge("check", file=file, expect=3).stderr


def test_one_of_a_thing_is_said_as_one(file: Path) -> None:
    file.write_text(GOOD.replace("python: 0%", "pyton: 0%").replace("version: 1", "version: 1"))
    said = bridge("check", file=file, expect=3).stderr
    errors = said.count(": error: ")
    wanted = "1 error in" if errors == 1 else f"{errors} errors in"
    assert wanted in said


def test_without_a_file_it_says_what_writes_one(tmp_path: Path) -> None:
    said = bridge("check", file=tmp_path / "routes.yaml", expect=3).stderr
    assert "`bridgectl example site` writes one" in said


def test_check_fails_on_warnings_only_when_strict(file: Path) -> None:
    file.write_text(GOOD + f'  - {{name: b, path: "/p/<x>", handler: "{VIEW}", python: 0%}}\n')
    assert "warning: route `b` is shadowed" in bridge("check", file=file).stderr
    bridge("check", "--strict", file=file, expect=1)


def test_check_covers_both_files_and_that_they_fit(file: Path, tmp_path: Path) -> None:
    sync = tmp_path / "sync.yaml"
    sync.write_text("version: 1\nentities:\n  project: {collection: projects}\n")
    file.write_text(GOOD.replace("python: 0%", "reads: [project, projct], python: 0%"))
    done = bridge("check", file=file, expect=3, BRIDGE_SYNC=str(sync))
    assert f"{file}:10:" in done.stderr
    assert "route `page` reads `projct`, which sync.yaml does not mirror" in done.stderr
    assert "did you mean `project`?" in done.stderr

    file.write_text(GOOD.replace("python: 0%", "reads: [project], python: 0%"))
    done = bridge("check", file=file, BRIDGE_SYNC=str(sync))
    assert f"{sync} is good: project" in done.stdout

    sync.write_text("version: 1\nentities:\n  project: {colection: projects}\n")
    file.write_text(GOOD.replace("python: 0%", "pyton: 0%"))
    done = bridge("check", file=file, expect=3, BRIDGE_SYNC=str(sync))
    assert f"{sync}:3:" in done.stderr
    assert f"{file}:10:" in done.stderr


def test_check_finds_sync_yaml_beside_routes_yaml(file: Path) -> None:
    sync = file.parent / "sync.yaml"
    sync.write_text("version: 1\nentities:\n  project: {colection: projects}\n")
    assert f"{sync}:3:" in bridge("check", file=file, expect=3).stderr


@pytest.mark.parametrize("more", [("--header", "A: b"), ("--cookie", "a=b")])
def test_check_takes_headers_only_with_follow(file: Path, more: tuple[str, str]) -> None:
    assert "are for --follow" in bridge("check", *more, file=file, expect=2).stderr


def test_check_refuses_a_view_that_does_not_take_what_the_path_gives(file: Path) -> None:
    file.write_text(GOOD.replace(VIEW, "tests.proxy.site:decided"))
    said = bridge("check", file=file, expect=3).stderr
    assert f"{file}:10:" in said
    assert "does not take the request and name" in said
    done = bridge("flip", "page", "5%", "--why", "x", file=file, expect=3)
    assert "does not take the request and name" in done.stderr
    assert "python: 0%" in file.read_text()


def test_check_warns_of_what_the_environment_hardly_means(file: Path) -> None:
    odd = {"BRIDGE_SECRET": "abc", "BRIDGE_MONGO_URL": "mongodb://127.0.0.1/b"}
    said = bridge("check", file=file, **odd).stderr
    assert "BRIDGE_SECRET: warning: has 3 characters" in said
    assert "BRIDGE_MONGO_URL: warning: the bridge reads no such name" in said
    assert "did you mean BRIDGE_MONGODB_URL?" in said
    bridge("check", "--strict", file=file, expect=1, **odd)


@pytest.mark.parametrize("verb", ["snapshot", "reconcile"])
def test_an_entity_that_there_is_not_is_a_wrong_usage(file: Path, verb: str) -> None:
    write_sync(file.parent)
    said = bridge(verb, "projet", file=file, expect=2).stderr
    assert "has no entity projet. did you mean `project`?" in said


def test_explain_gives_the_route_and_the_reason(file: Path) -> None:
    assert "php answers: page (name=x)" in bridge("explain", "GET", "/p/x", file=file).stdout
    found = json.loads(bridge("explain", "get", "/p/x", "-o", "json", file=file).stdout)
    assert (found["backend"], found["route"], found["reason"]) == ("php", "page", "share")


def test_explain_takes_headers_and_cookies(file: Path) -> None:
    file.write_text(GOOD.replace(" 0%}", " 50%, headers: {X-A: b}}"))
    words = ("explain", "GET", "/p/x", "--header", "X-A: b", "--cookie", "bridge_share=abcdefgh12")
    found = json.loads(bridge(*words, "-o", "json", file=file).stdout)
    assert found["bucket"] is not None
    bridge("explain", "GET", "/p/x", "--header", "nonsense", file=file, expect=2)


def test_flip_changes_the_file_and_history_shows_it(file: Path) -> None:
    found = json.loads(bridge("flip", "page", "5%", "--why", "try", "-o", "json", file=file).stdout)
    assert (found["old"], found["new"], found["workers"]) == ("0%", "5%", 0)
    assert "python: 5%" in file.read_text()
    assert json.loads(bridge("history", "-o", "json", file=file).stdout)[0]["why"] == "try"
    assert "try" in bridge("history", file=file).stdout


def test_flip_refuses_with_exit_code_5_and_wants_a_reason(file: Path) -> None:
    done = bridge("flip", "pag", "5%", "--why", "x", file=file, expect=5)
    assert "did you mean `page`?" in done.stderr
    bridge("flip", "page", "5%", file=file, expect=2)
    assert file.read_text() == GOOD


def test_preview_needs_a_secret_and_says_so(file: Path) -> None:
    done = bridge("preview", "page", "python", file=file, expect=1, BRIDGE_SECRET="")
    assert "BRIDGE_SECRET" in done.stderr
    done = bridge("preview", "page", "python", "-o", "json", file=file, BRIDGE_SECRET="s")
    assert json.loads(done.stdout)["cookie"].startswith("bridge_preview=")
    said = bridge("preview", "page", "python", file=file, BRIDGE_SECRET="s").stdout
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", said)


def test_explain_says_that_a_preview_needs_the_secret(file: Path) -> None:
    words = ("explain", "GET", "/p/x", "--cookie", "bridge_preview=x")
    said = bridge(*words, file=file, BRIDGE_SECRET="").stdout
    assert "0%; preview cookie ignored: BRIDGE_SECRET is not set" in said
    assert "ignored" not in bridge(*words, file=file, BRIDGE_SECRET="s").stdout


LOGGED = """\
version: 1
entities:
  page: {collection: pages, source: {table: pages, key: id, log: true}}
"""


def test_explain_says_when_the_database_is_asked_where_its_log_ends(file: Path) -> None:
    text = GOOD.replace(" 0%}", " 100%, reads: [page]}")
    text += "  - {name: trashing, path: /trash, writes: true}\n"
    file.write_text(text)
    write_sync(file.parent, LOGGED)
    env = {
        "BRIDGE_FRESHNESS_KEYS": "a1:0123456789abcdef",
        "BRIDGE_SQL_URL": "mysql://root@127.0.0.1:1/site",
    }

    def own_edits(method: str, url: str, **more: str) -> list[str]:
        words = ("explain", method, url, "-o", "json")
        found: list[str] = json.loads(bridge(*words, file=file, **more).stdout)["own_edits"]
        return found

    asked = "the database is asked where its log ends, before the answer goes on"
    assert own_edits("POST", "/x", **env) == [f"after legacy's answer {asked}"]
    assert own_edits("GET", "/trash", **env) == [f"after legacy's answer {asked}"]
    assert own_edits("GET", "/x", **env) == [f"if legacy answers with a redirect, {asked}"]
    waits, _ = own_edits("GET", "/p/x", **env)
    assert waits.startswith("who has just written waits until page in MongoDB is as new")
    for missing in env:
        assert own_edits("POST", "/x", **{**env, missing: ""}) == []
    said = bridge("explain", "POST", "/x", file=file, **env).stdout
    assert f"own edits: after legacy's answer {asked}" in said


@pytest.mark.parametrize(
    ("sync", "warns"),
    [
        (LOGGED, False),
        (LOGGED.replace("log: true", "version: ver, log: compare"), True),
        (LOGGED.replace(", log: true", ""), True),
        (None, True),
    ],
)
def test_check_warns_of_writes_that_nobody_is_asked_about(
    file: Path, sync: str | None, warns: bool
) -> None:
    file.write_text(GOOD + "  - {name: trashing, path: /trash, writes: true}\n")
    if sync is not None:
        write_sync(file.parent, sync)

    said = bridge("check", "--strict", file=file, expect=1 if warns else 0).stderr

    line = file.read_text().count("\n")
    assert (f"{file}:{line}:" in said and "`trashing` has `writes: true`" in said) is warns


def test_routes_shows_the_file_when_nothing_runs(file: Path) -> None:
    assert "No worker runs" in bridge("routes", file=file).stdout
    found = json.loads(bridge("routes", "-o", "json", file=file).stdout)
    assert found["workers"] == []
    assert found["routes"][0]["python"] == "0%"


def test_serve_refuses_a_broken_file_with_its_lines(file: Path) -> None:
    file.write_text(GOOD.replace("/p/<name>", "p"))
    done = bridge("serve", "--bind", "127.0.0.1:0", file=file, expect=3)
    assert f"{file}:10:" in done.stderr


def test_worker_names_a_missing_server_without_its_password(file: Path) -> None:
    write_sync(file.parent)
    done = bridge(
        "worker", file=file, expect=4, BRIDGE_BROKER_URL="redis://user:hunter2@127.0.0.1:1/0"
    )
    assert "redis://user:***@127.0.0.1:1/0" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "redis-server" in done.stderr


def test_a_mistyped_verb_gets_a_suggestion(file: Path) -> None:
    assert "did you mean `flip`?" in bridge("flop", file=file, expect=2).stderr


@pytest.mark.parametrize("verb", ["check", "explain", "flip", "preview", "routes", "serve"])
def test_every_verb_helps_with_an_example(verb: str, file: Path) -> None:
    assert f"bridgectl {verb}" in bridge(verb, "--help", file=file).stdout.split("Example:")[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str, file: Path) -> None:
    assert "_BRIDGECTL_COMPLETE" in bridge("completion", shell, file=file).stdout


def test_completion_knows_routes_and_groups(file: Path) -> None:
    env = {
        "_BRIDGECTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "bridgectl flip p",
        "COMP_CWORD": "2",
    }
    done = bridge(file=file, **env)
    assert {line.split(",")[1] for line in done.stdout.split()} == {"page", "pages"}


def test_completion_reads_the_file_that_is_named(file: Path) -> None:
    other = file.with_name("other.yaml")
    other.write_text(GOOD.replace("name: page,", "name: plain,"))
    words = f"bridgectl --routes {other} flip pl"
    env = {"_BRIDGECTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
    assert bridge(file=file, **env).stdout.split() == ["plain,plain"]
