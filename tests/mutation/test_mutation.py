"""The mutation run finds what a weak test lets pass, and nothing where the test is good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.equivalent import Equivalents
from tests.mutation.mutations import mutations_of
from tests.mutation.table import PURE, files_of

MODULE = '''\
"""What is late."""


def late(day: int, due: int = 20) -> bool:
    """Whether the day is after the due one."""
    while day > 99:
        day -= 100
    return day > due
'''
GOOD = """\
from lateness import late


def test_the_day_after_is_late():
    assert [late(day) for day in (20, 21)] == [False, True]
    assert [late(day) for day in (99, 100, 120, 121, 200)] == [True, False, False, True, False]
"""
WEAK = """\
from lateness import late


def test_much_later_is_late():
    assert late(90)


def test_with_a_server(redis_server):
    assert not late(20)
"""


def run(folder: Path, test: str, *options: str) -> dict[str, Any]:
    """What a run in a folder of its own says of MODULE and this test of it."""
    module, file = folder / "lateness.py", folder / "test_lateness.py"
    module.write_text(MODULE)
    file.write_text(test)
    words = ["lateness", "--tests", str(file), "-o", "json", *options]
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation", *words],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{folder}:{Path.cwd()}", "PATH": ""},
        timeout=60,
    )
    assert done.stdout, done.stderr
    assert module.read_text() == MODULE
    (result,) = json.loads(done.stdout)
    assert done.returncode == (result["percent"] < 90)
    return result  # type: ignore[no-any-return]


def test_a_good_test_lets_nothing_pass(tmp_path: Path) -> None:
    """Not even what never ends: a day that no more gets smaller."""
    result = run(tmp_path, GOOD)
    assert result["survivors"] == []
    assert result["mutations"] == result["killed"] >= 10


def test_what_a_weak_test_lets_pass_is_named_with_its_line(tmp_path: Path) -> None:
    """What needs a server does not count as a test."""
    result = run(tmp_path, WEAK)
    assert {"line": 8, "text": "return day > due", "change": "day > due → day >= due"} in result[
        "survivors"
    ]
    assert 0 < result["killed"] < result["mutations"]


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    first, again = (run(tmp_path, WEAK, "--sample", "3", "--seed", "5") for _ in range(2))
    assert first["mutations"] == 3
    assert first["survivors"] == again["survivors"]


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a < b", {"a < b → a <= b"}),
        ("a and b", {"a and b → a or b", "a and b → a", "a and b → b"}),
        ("not a", {"not a → a"}),
        ("x[1]", {"x[1] → x[2]", "x[1] → x[0]"}),
        ("a = True", {"True → False"}),
        ("a += b", {"a += b → pass"}),
        ("if a:\n    b", {"if a: → if True:", "if a: → if False:", "b → pass"}),
        ("a = a.lower()", {"a = a.lower() → pass", "a.lower() → a"}),
        ("a = {'x', 'y'}", {"{'x', 'y'} → {'x'}", "{'x', 'y'} → {'y'}"}),
        ("def f() -> int:\n    return a", {"return a → return None"}),
        ("[a for a in b if a]", {"[a for a in b if a] → [a for a in b]"}),
        ("try:\n    a()\nexcept E:\n    b = 1 < 2", {"except E: → except E:"}),
        ("import a\n__all__ = ['a', 'b']", set()),
        ('"""Text."""\nraise E("a" + "b")', {"raise E('a' + 'b') → pass"}),
    ],
)
def test_each_kind_of_change_is_made(source: str, changes: set[str]) -> None:
    assert changes <= {one.change for one in mutations_of(source, "x.py")}


def test_every_pure_module_has_unit_tests_and_every_equivalent_mutation_is_there() -> None:
    for module in PURE:
        assert files_of(module), module
        if not Equivalents.of(module).named:
            continue
        path = Path(*module.split(".")).with_suffix(".py")
        every = mutations_of(path.read_text(), str(path))
        assert Equivalents.of(module).unmatched(every) == []


def test_a_name_that_no_mutation_has_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.toml"
    file.write_text('[[equivalent]]\nmodule = "m"\nline = "a < b"\nchange = "gone"\nwhy = "x"\n')
    named = Equivalents.of("m", file)
    assert len(named.unmatched(mutations_of("a < b", "x.py"))) == 1
    assert Equivalents.of("other", file).unmatched([]) == []


def test_a_name_that_several_mutations_have_is_an_error_until_it_names_the_function(
    tmp_path: Path,
) -> None:
    source = "def one():\n    return a < b\n\ndef two():\n    return a < b\n"
    every = list(mutations_of(source, "x.py"))
    twice = next(one for one in every if "<=" in one.change)
    file = tmp_path / "equivalent.toml"
    entry = f"[[equivalent]]\nmodule = 'm'\nline = '{twice.text}'\nchange = '{twice.change}'\n"
    file.write_text(f"{entry}why = 'x'\n")

    (said,) = Equivalents.of("m", file).unmatched(every)

    assert "2 mutations" in said
    file.write_text(f"{entry}function = 'two'\nwhy = 'x'\n")
    named = Equivalents.of("m", file)
    assert named.unmatched(every) == []
    assert [one.function for one in every if named.name(one)] == ["two"]
