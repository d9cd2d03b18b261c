"""Whatever stands in a configuration file: it loads, or it is an error with a line; never more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigError, Problem
from bridge.proxy.routing.load import Handlers, load, load_text
from bridge.proxy.tools.flip import flip, flip_all
from bridge.proxy.tools.lint import lint
from bridge.sync import entities
from bridge.yamlfile import YamlFile
from tests.proxy.site import TOP, VIEW, decided, head, route

GOOD = f"""{TOP}  - &base {{{route("one", "/one/<name>", "10%")}}}
  - {{<<: *base, name: two, path: "/two/<int(max=9):n>", query: {{page: true}}}}
"""

ODD_VALUES = [
    "2026-13-45", "!!int abc", "!!float x", "!!bool maybe", "!!timestamp 9", "!!binary '@'",
    "9" * 5000, "0x" + "f" * 6000, ".nan", "-.inf", "1e999", "~", "''", "[", "{", "&a", "*nobody",
    "&self [*self]", "&map {a: *map}", "{<<: 1}", "{<<: [1, 2]}", "{? [a]: b}", "{? {a: b}: c}",
    "!!omap [a: 1]", "!!set {a}", "!odd x", '"\\ud800"', '"\\0"', '"\\e[2J"', "|-\n  a", "- b",
    "% x", "@x", "`x", "\t", "\x00", "\ufeff", "---", "...", "%YAML 9.9", "<<: *base",
]  # fmt: skip

ODD_PATHS = [
    "/project/<name>/files/<name>", "/<string(min=3):x>", "/<int(max=x):a>", "/<float(min=a):a>",
    "/<any(1,2):a>", "/<any():a>", "/<string(length=x):a>", "/<string(length=99999999999):a>",
    "/<int(fixed_digits='a'):a>", "/<nobody:a>", "/<a", "/a>", "/<>", "/<:a>", "/<1>", "/<class>",
    "/<a b>", "/<path(x):a>", "/<int(:a>", "/<uuid(1):a>", "/<a>|x", "|", "/" + "/a" * 3000,
    "/<self>", "/<__import__>", "/<string(minlength=9,maxlength=1):a>", "/(", "/[", "/\\", "/*",
]  # fmt: skip


def problems(text: str, handlers: Handlers = Handlers.NEEDED) -> list[Problem]:
    """What is wrong with routes.yaml, empty when it loads. Nothing else may be raised."""
    try:
        load_text(text, Path("routes.yaml"), handlers=handlers)
    except ConfigError as error:
        return list(error.problems)
    return []


def problems_of_sync(file: Path) -> list[Problem]:
    """The same for sync.yaml."""
    try:
        entities.load(file)
    except ConfigError as error:
        return list(error.problems)
    return []


def number_of(text: str, part: str) -> int:
    """The line, from 1, in which `part` stands first."""
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_that_no_rule_can_have_is_an_error_in_its_line(path: str) -> None:
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    text = f"{TOP}  - {{{route('good', '/good')}}}\n  - {{{route('odd', quoted)}}}\n"
    found = problems(text)
    assert {problem.line for problem in found} <= {number_of(text, "name: odd")}
    if not found:
        # What loads can be asked, with anything.
        table = load_text(text, Path("routes.yaml"))
        for target in ("/1", "/a", "/1.5", "/(", "/a/b", "/%ff"):
            decided(table, head(target))


def test_a_variable_that_is_there_twice_is_named() -> None:
    (problem,) = problems(f"{TOP}  - {{{route('odd', '/project/<name>/files/<name>')}}}\n")
    assert "the variable `name` is there twice" in problem.message


@pytest.mark.parametrize("opening", ["{", "[", "{a: ", "[[{", "- "])
@pytest.mark.parametrize("end", ["", "\n"])
def test_deep_nesting_is_an_error_of_the_file(opening: str, end: str) -> None:
    for depth in (150, 1500):
        found = problems(TOP + (opening + end) * depth)
        assert found
        assert all(problem.line for problem in found)


@pytest.mark.parametrize("odd", ODD_VALUES)
@pytest.mark.parametrize("place", ["10%", "true", "forge.example", "name: two", "version: 1"])
def test_an_odd_value_is_an_error_with_its_line(odd: str, place: str) -> None:
    text = GOOD.replace(place, odd, 1)
    assert all(problem.line for problem in problems(text))


@pytest.mark.parametrize("odd", ["2026-13-45", "!!int abc", "!!float x", "9" * 5000])
def test_a_value_that_yaml_cannot_make_is_named_in_the_line_where_it_stands(odd: str) -> None:
    text = f"{TOP}  - {{{route('good', '/good')}}}\n  - {{{route('odd', '/odd', odd)}}}\n"
    (problem,) = problems(text)
    assert problem.line == number_of(text, "name: odd")
    assert problem.column > 1


WORDS = st.sampled_from(
    [*ODD_VALUES, *ODD_PATHS, "\n", "\n  - ", "  ", ": ", ", ", "{", "}", "[", "]", "&base ",
     "*base", "<<: *base", "name: x", "path: /x", "python: 5%", "group: pages", f"handler: {VIEW}",
     "error_pages: {502: ..}", "hosts: [x]", "query: {a: b}", "sites:", "routes:", "version: 1",
     "'", '"', "#", "|\n", "? "]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 40),
            WORDS | st.text(max_size=5),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_damage_is_an_error_with_a_line_or_loads(
    damage: list[tuple[int, int, str]],
) -> None:
    text = GOOD
    for start, length, put in damage:
        text = text[:start] + put + text[start + length :]
    for handlers in (Handlers.NAMED, Handlers.WANTED):
        assert all(problem.line for problem in problems(text, handlers))
    if not problems(text):
        table = load_text(text, Path("routes.yaml"))
        lint(table, "routes.yaml")
        if "forge" in table.file.sites and table.hosts.owner("forge.example"):
            decided(table, head("/two/5?page=1"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_error_or_load(raw: bytes) -> None:
    file = Path(f"/proc/self/fd/{os.memfd_create('routes')}")
    try:
        file.write_bytes(raw)
        with pytest.raises(ConfigError):
            load(file)
        problems_of_sync(file)
    finally:
        os.close(int(file.name))


def test_the_same_holds_for_sync_yaml(tmp_path: Path) -> None:
    file = tmp_path / "sync.yaml"
    for odd in ODD_VALUES:
        for text in (
            f"version: {odd}\n",
            f"version: 1\nentities: {odd}\n",
            f"version: 1\nentities: {{a: {odd}",
        ):
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
            assert all(problem.line for problem in problems_of_sync(file)), odd


# --- merge keys


def test_what_is_merged_counts_and_errors_in_it_have_its_line() -> None:
    table = load_text(GOOD, Path("routes.yaml"))
    assert [one.share for one in table.routes] == [10_000, 10_000]
    broken = GOOD.replace("python: 10%", "pyton: 10%")
    where = [p.line for p in problems(broken) if "pyton" in p.message]
    assert where == [number_of(broken, "pyton")]
    wrong = GOOD.replace("10%", "10")
    assert {p.line for p in problems(wrong)} == {number_of(wrong, "&base")}


@pytest.mark.parametrize(
    "merged",
    ["{<<: *base, python: 5%}", "{<<: [*base], python: 5%}", "{<<: {python: 5%, path: /x}}"],
)
def test_a_value_is_where_it_is_written(merged: str) -> None:
    text = f"base: &base {{python: 1%,\n  path: /p}}\nmine:\n  {merged}\n"
    yaml = YamlFile.parse(text, "x.yaml")
    assert yaml.position(("mine", "python"))[0] == number_of(text, "python: 5%")
    merges_base = "*base" in merged
    assert yaml.position(("mine", "path"))[0] == (2 if merges_base else 4)


def test_a_flip_of_a_merged_share_changes_it_where_it_stands_or_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(GOOD)
    assert load(file).routes[1].share == 10_000
    flips = flip_all(file, "0%", who="me", why="all back")
    assert {one.name for one in flips.flips} >= {"one"}
    assert [one.share for one in load(file).routes] == [0, 0]
    assert file.read_text() == GOOD.replace("10%", "0%").replace("20%", "0%")
    with pytest.raises(Exception, match="change something else too"):
        flip(file, "two", "5%", who="me", why="one of two")


# --- what is no file


def test_what_is_no_plain_file_is_an_error_and_nobody_waits_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero"), tmp_path / "a\0b", tmp_path / "\ud800"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)
    (tmp_path / "large").write_bytes(b"#" * (9 * 1024 * 1024))
    with pytest.raises(ConfigError, match="8 MiB"):
        load(tmp_path / "large")


@pytest.mark.parametrize("name", ["pipe", "..", '"\\0"', '"\\ud800"', "/dev/zero", "nowhere"])
def test_an_error_page_that_is_no_file_is_an_error_in_its_line(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    top = TOP.replace("legacy: php}", f"legacy: php, error_pages: {{502: {name}}}}}")
    with pytest.raises(ConfigError) as broken:
        load_text(f"{top}  []\n", tmp_path / "routes.yaml")
    assert {problem.line for problem in broken.value.problems} == {3}


def test_no_error_can_command_a_terminal_or_stop_a_log() -> None:
    for odd in ("\\e[2J", "\\ud800", "\\r"):
        found = problems(f'{TOP}  - {{"{odd}": 1}}\n  - {{{route("a", f"/<{odd}")}}}\n')
        for problem in found:
            str(problem).encode()
            assert str(problem).isprintable(), problem
