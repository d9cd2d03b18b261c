"""A flip: one changed line, everything else to the byte, on record, or refused."""

import json
import stat
from pathlib import Path

import pytest

from bridge.errors import ConfigError, FlipRefused
from bridge.proxy.flip import flip, flip_all, history_file, read_history
from bridge.proxy.routes import load
from tests.proxy.site import TOP, VIEW

TEXT = f"""\
# keep me
{TOP}  - name: page   # and me
    path: /p
    handler: "{VIEW}"
    python:   0%     # the number

  - {{name: inline, path: /i, handler: "{VIEW}", python: '12.5 %'}}
  - {{name: grouped, path: /g, handler: "{VIEW}", group: pages}}
  - {{name: plain, path: /plain}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(TEXT)
    return path


def changed_lines(path: Path) -> list[tuple[str, str]]:
    pairs = zip(TEXT.splitlines(), path.read_text().splitlines(), strict=True)
    return [(old, new) for old, new in pairs if old != new]


@pytest.mark.parametrize(
    ("name", "share", "old", "new"),
    [
        ("page", "5%", "    python:   0%     # the number", "    python:   5%     # the number"),
        ("pages", "33.333%", "  pages: {python: 20%}", "  pages: {python: 33.333%}"),
    ],
)
def test_changes_exactly_one_line(file: Path, name: str, share: str, old: str, new: str) -> None:
    flip(file, name, share, who="me", why="first")
    assert changed_lines(file) == [(old, new)]


def test_keeps_quotes_and_crlf_line_ends(file: Path) -> None:
    file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    flip(file, "inline", "0%", who="me", why="undo")
    assert file.read_bytes() == TEXT.replace("'12.5 %'", "'0%'").replace("\n", "\r\n").encode()


def test_records_who_when_from_to_and_why(file: Path) -> None:
    flip(file, "page", "5%", who="ann", why="first visitors")
    flip(file, "page", "0%", who="bob", why="wrong dates")
    lines = [json.loads(line) for line in history_file(file).read_text().splitlines()]
    facts = [(x["who"], x["name"], x["old"], x["new"], x["why"]) for x in lines]
    assert facts == [
        ("ann", "page", "0%", "5%", "first visitors"),
        ("bob", "page", "5%", "0%", "wrong dates"),
    ]
    assert [entry.who for entry in read_history(file)] == ["ann", "bob"]
    assert lines[0]["at"] <= lines[1]["at"]


def test_a_flip_to_the_same_number_changes_nothing(file: Path) -> None:
    assert not flip(file, "inline", "12.5%", who="me", why="again").changed
    assert changed_lines(file) == []
    assert not history_file(file).exists()


@pytest.mark.parametrize(
    ("name", "share", "why", "says"),
    [
        ("pagge", "5%", "x", "did you mean `page`"),
        ("plain", "5%", "x", "no Python side"),
        ("grouped", "5%", "x", "bridge flip pages"),
        ("page", "101%", "x", "0% to 100%"),
        ("page", "-1%", "x", "0% to 100%"),
        ("page", "0.0001%", "x", "three decimals"),
        ("page", "5%", "  ", "--why"),
    ],
)
def test_refuses_and_changes_nothing(
    file: Path, name: str, share: str, why: str, says: str
) -> None:
    with pytest.raises(FlipRefused, match=says.replace("?", r"\?")):
        flip(file, name, share, who="me", why=why)
    assert changed_lines(file) == []
    assert not history_file(file).exists()


def test_refuses_a_broken_file(file: Path) -> None:
    file.write_text(TEXT.replace("path: /i", "pfad: /i"))
    with pytest.raises(ConfigError):
        flip(file, "page", "5%", who="me", why="x")


def test_refuses_a_number_that_an_alias_shares_with_another_route(file: Path) -> None:
    text = TEXT.replace("python:   0% ", "python: &n 0% ").replace("'12.5 %'", "*n")
    file.write_text(text)
    with pytest.raises(FlipRefused):
        flip(file, "page", "5%", who="me", why="x")
    assert file.read_text() == text


def test_a_link_stays_a_link_and_the_mode_stays(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    flip(link, "page", "5%", who="me", why="x")
    assert link.is_symlink()
    assert "python:   5%" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_leaves_no_temporary_file(file: Path, tmp_path: Path) -> None:
    flip(file, "page", "5%", who="me", why="x")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"routes.yaml", "routes.history.jsonl", ".routes.yaml.lock"}


class TestEverythingBack:
    def test_every_share_is_zero_with_one_change(self, file: Path) -> None:
        flip(file, "page", "30%", who="ann", why="more")
        flips = flip_all(file, "0%", who="bob", why="the mirror is gone")
        assert [(one.name, one.old, one.new) for one in flips] == [
            ("pages", "20%", "0%"),
            ("page", "30%", "0%"),
            ("inline", "12.5 %", "0%"),
        ]
        assert all(not route.share for route in load(file).routes)
        assert [one.name for one in read_history(file)] == ["page", "pages", "page", "inline"]

    def test_nothing_else_changes(self, file: Path) -> None:
        flip_all(file, "0%", who="me", why="back")
        old = [line for line, _ in changed_lines(file)]
        assert len(old) == 2
        assert file.read_text() == TEXT.replace("20%", "0%").replace("12.5 %", "0%")

    def test_shares_on_one_line_are_all_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "routes.yaml"
        inline = [f'{{name: r{n}, path: /r{n}, handler: "{VIEW}", python: {n}0%}}' for n in (1, 2)]
        path.write_text(TOP.replace("routes:\n", f"routes: [{', '.join(inline)}]\n"))
        flip_all(path, "0%", who="me", why="back")
        assert [route.share for route in load(path).routes] == [0, 0]

    def test_a_second_time_changes_nothing(self, file: Path) -> None:
        flip_all(file, "0%", who="me", why="back")
        before = file.stat().st_mtime_ns
        assert flip_all(file, "0%", who="me", why="back") == []
        assert file.stat().st_mtime_ns == before


class TestAHandlerThatCannotBeImported:
    @pytest.fixture
    def broken(self, file: Path) -> Path:
        named = 'path: /p\n    handler: "{}"'
        file.write_text(TEXT.replace(named.format(VIEW), named.format("no.such:view")))
        flip(file, "pages", "10%", who="me", why="another route")
        return file

    def test_its_share_can_be_lowered(self, broken: Path) -> None:
        text = broken.read_text().replace("python:   0%", "python:   50%")
        broken.write_text(text)
        assert flip(broken, "page", "0%", who="me", why="it fails").changed

    def test_its_share_cannot_be_raised(self, broken: Path) -> None:
        with pytest.raises(ConfigError, match="no module"):
            flip(broken, "page", "5%", who="me", why="a try")

    def test_that_of_another_route_can(self, broken: Path) -> None:
        assert flip(broken, "pages", "40%", who="me", why="more").changed
