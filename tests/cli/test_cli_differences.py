"""What comparisons have found, as people and programs ask for it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.evidence.answers import Asked
from bridge.evidence.differences.found import Shown
from bridge.evidence.differences.store import Evidence
from tests.cli.test_cli import bridge
from tests.evidence.differences.notes import answer, difference, note
from tests.proxy.site import TOP, VIEW

ROUTES = "".join(
    f'  - {{name: {name}, path: "/{name}", handler: "{VIEW}", python: 5%}}\n'
    for name in ("project", "list", "show")
)
LINES = "\n".join(f"<p>line {number}</p>" for number in range(30))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(TOP + ROUTES)
    evidence = Evidence(tmp_path / ".bridge")
    for number in range(296):
        evidence.note(note(rules="", at=number))
    for at in (1e9, 2e9, 3e9):
        evidence.note(
            note(
                "different",
                rules="",
                at=at,
                legacy=answer(LINES, [("X-At", f"{at:.0f}")]),
                python=answer(LINES.replace("line 15", "\x1b[2Jline fifteen"), status=404),
                differences=[Shown("p[16]", "p", "changed", "line 15", "\x1b[2Jline fifteen")],
                asked=Asked("GET", "/project/bash?token=secret99", "www.example.org"),
            )
        )
    evidence.note(note("noise", rules="", differences=[difference("time")]))
    evidence.note(note("different", rules="", release="r0", differences=[difference("old")]))
    evidence.note(note("declined", route="list", rules=""))
    evidence.close()
    return path


def ask(file: Path, *words: str, expect: int = 0) -> str:
    done = bridge("differences", *words, file=file, expect=expect, BRIDGE_RELEASE="r1")
    return done.stdout if expect == 0 else done.stderr


def cells(text: str, first: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(first)]
    return line.split()


def test_groups_are_listed_with_what_was_compared(file: Path) -> None:
    said = ask(file)

    assert cells(said, "1   ") == [
        "1",
        "project",
        "p",
        "changed",
        "3",
        "different",
        "2065-01-24",
        "05:20",
    ]
    assert cells(said, "project ") == ["project", "300", "296", "1", "0", "3", "2.6%", "0", "0"]
    assert cells(said, "list ") == ["list", "0", "0", "0", "0", "0", "1", "0"]
    assert "1 group of older releases: --all" in said
    assert "bridgectl differences show 1" in said
    assert "old" in ask(file, "--all")


def test_one_route_is_listed_alone(file: Path) -> None:
    assert ask(file, "project") == ask(file, "list", "project")
    said = ask(file, "list", "list")
    assert "time" not in said
    assert "project" not in said


def test_a_route_with_the_name_of_a_command_is_asked_for_with_list(file: Path) -> None:
    assert "Nothing of release r1 was compared for show yet" in ask(file, "list", "show")


def test_programs_get_the_same(file: Path) -> None:
    found = json.loads(ask(file, "-o", "json"))

    assert (found["release"], found["older"]) == ("r1", 1)
    assert found["routes"]["project"]["bound"] == "2.6%"
    assert found["routes"]["list"]["declined"] == 1
    first = found["differences"][0]
    assert (first["id"], first["place"], first["count"], first["kind"]) == (1, "p", 3, "different")
    assert found == json.loads(ask(file, "list", "-o", "json"))


def test_both_answers_are_shown_beside_each_other(file: Path) -> None:
    said = ask(file, "show", "1")

    assert "GET http://www.example.org/project/bash?token=●●●" in said
    assert "changed, different, 3 times" in said
    (row,) = [line for line in said.splitlines() if "<p>line 15</p>" in line]
    assert row.split("!")[1].strip() == "<p>\\x1b[2Jline fifteen</p>"
    assert "X-At: 3000000000" in said
    assert "\x1b" not in said
    assert "12 equal lines" in said
    assert "2 more samples: bridgectl differences show 1 --sample 2" in said
    assert "X-At: 1000000000" in ask(file, "show", "1", "--sample", "3")
    assert "there are 3 samples" in ask(file, "show", "1", "--sample", "4", expect=1)


def test_programs_get_all_samples_the_newest_first(file: Path) -> None:
    found = json.loads(ask(file, "show", "1", "-o", "json"))

    assert [one["at"] for one in found["samples"]] == [3e9, 2e9, 1e9]
    newest = found["samples"][0]
    assert newest["legacy"]["text"] == LINES
    assert newest["python"]["status"] == 404
    assert newest["difference"]["place"] == "p[16]"


def test_it_fits_the_terminal(file: Path) -> None:
    """Of 60 columns, as `script` and people have them."""
    command = f"stty cols 60; {sys.executable} -m bridge differences show 1"
    env = {**os.environ, "BRIDGE_ROUTES": str(file), "PYTHONPATH": os.getcwd(), "TERM": "xterm"}
    env.pop("COLUMNS", None)
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip("\r") for line in done.stdout.split("\n")]
    table = lines[[line.split() for line in lines].index(["Legacy", "Python"]) :]
    assert max(map(len, table)) <= 61
    assert "\x1b[1;3" in done.stdout
    assert "\x1b[2J" not in done.stdout


def test_one_file_can_be_handed_around(file: Path) -> None:
    made = file.parent / "found.html"
    said = ask(file, "--html", str(made))

    assert said == f"{made}: 2 groups\n"
    text = made.read_text()
    assert "<!doctype html>" in text
    assert "\\x1b[2Jline fifteen" in text.replace("<ins>", "").replace("</ins>", "")
    assert "secret99" not in text
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert "cannot be written" in ask(file, "--html", "/proc/x/found.html", expect=1)


def test_what_is_not_there_is_said_with_what_to_do(file: Path) -> None:
    assert "did you mean `project`?" in ask(file, "projct", expect=1)
    assert "there is no difference 99; see `bridgectl differences" in ask(
        file, "show", "99", expect=1
    )
    assert "is not in the range x>=1" in ask(file, "show", "0", expect=2)
    assert "not a valid integer range" in ask(file, "show", "x", expect=2)
    assert "no route `99`" in ask(file, "clear", "99", expect=1)


def test_a_route_a_difference_or_all_can_be_cleared(file: Path) -> None:
    assert ask(file, "clear", "1") == "1 group cleared\n"
    assert ask(file, "clear", "project") == "2 groups cleared\n"
    assert "Nothing of release r1 was compared for project yet" in ask(file, "project")
    assert json.loads(ask(file, "clear", "-o", "json")) == {"cleared": 0}
    assert "Nothing of release r1 was compared yet" in ask(file)


def test_without_any_evidence_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(TOP + ROUTES)

    assert "Nothing of release r1 was compared yet." in ask(tmp_path / "routes.yaml")


def test_while_routes_yaml_is_broken_all_is_shown(file: Path) -> None:
    file.write_text("version: 9\n")
    said = ask(file)

    assert "old" in said
    assert "Which release runs is not known" in said


def test_a_file_that_is_none_is_said(file: Path) -> None:
    (file.parent / ".bridge" / "evidence.db").write_text("nothing of the kind")

    for words in ((), ("show", "1"), ("clear",)):
        assert "is damaged, or of another program: remove it" in ask(file, *words, expect=1)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bridgectl differences ", {"clear", "list", "show", "project"}),  # each once
        ("bridgectl differences pr", {"project"}),
        ("bridgectl differences list ", {"list", "show", "project"}),
        ("bridgectl differences show ", {"1", "2", "3"}),
        ("bridgectl differences clear ", {"1", "2", "3", "list", "show", "project"}),
    ],
)
def test_a_shell_completes_routes_and_numbers(file: Path, words: str, offered: set[str]) -> None:
    env = {
        **os.environ,
        "BRIDGE_ROUTES": str(file),
        "PYTHONPATH": os.getcwd(),
        "_BRIDGECTL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    program = "from bridge.cli import cli; cli(prog_name='bridgectl')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60
    )

    found = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert offered <= found, done
    assert len(found) == len(done.stdout.splitlines())
