"""A flip: one changed line, everything else to the byte, on record, or refused."""

import json
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigError, FlipRefused, WrongUsage
from bridge.proxy.routing.load import load
from bridge.proxy.tools.flip import flip, flip_all, history_file, read_history
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
        ("grouped", "5%", "x", "bridgectl flip pages"),
        ("page", "101%", "x", "0% to 100%"),
        ("page", "-1%", "x", "0% to 100%"),
        ("page", "0.0001%", "x", "three decimals"),
        ("page", "5", "x", "write 5%"),
        ("page", "0.05", "x", "write 0.05% or 5%, whichever is meant"),
        ("page", "5%", "  ", "--why"),
    ],
)
def test_refuses_and_changes_nothing(
    file: Path, name: str, share: str, why: str, says: str
) -> None:
    with pytest.raises((FlipRefused, WrongUsage), match=says.replace("?", r"\?")):
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
        done = flip_all(file, "0%", who="bob", why="the mirror is gone")
        assert [(one.name, one.old, one.new) for one in done.flips] == [
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
        assert not flip_all(file, "0%", who="me", why="back").flips
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


HANDLER = 'path: /p\n    handler: "{}"'


def save_while_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    """A handler whose import, which a flip waits for, does what a colleague's editor does."""
    name = f"saves_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(f"{code}\ndef view(request): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:view"


class TestASaveMeanwhile:
    """Somebody saves the file between the moments in which a flip reads and writes it."""

    @pytest.fixture(params=["in place", "by rename"])
    def saving(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        file = str(tmp_path / "routes.yaml")
        begin = f"from pathlib import Path; file = Path({file!r}); "
        begin += "text = file.read_text() + '# a colleague\\n'; "
        if request.param == "in place":
            return f"{begin}file.write_text(text)"
        return f"{begin}new = Path('{file}.new'); new.write_text(text); new.replace(file)"

    @pytest.mark.parametrize("every", [False, True])
    def test_is_kept_and_the_flip_is_in_it(
        self,
        file: Path,
        saving: str,
        every: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        handler = save_while_importing(tmp_path, monkeypatch, saving)
        text = TEXT.replace(HANDLER.format(VIEW), HANDLER.format(handler))
        file.write_text(text)
        if every:
            done = flip_all(file, "30%", who="me", why="all")
            wanted = text.replace(" 0%", " 30%").replace("20%", "30%").replace("12.5 %", "30%")
        else:
            done = flip(file, "page", "5%", who="me", why="a try")
            wanted = text.replace(" 0%", " 5%")
        assert file.read_text() == wanted + "# a colleague\n"
        assert len(read_history(file)) == len(done.flips)
        assert done.flips[0].digest == load(file).digest

    def test_that_breaks_the_file_is_kept_and_nothing_is_flipped(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = f"from pathlib import Path; file = Path({str(file)!r}); "
        code += "file.write_text(file.read_text() + 'routes: again\\n')"
        handler = save_while_importing(tmp_path, monkeypatch, code)
        text = TEXT.replace(HANDLER.format(VIEW), HANDLER.format(handler))
        file.write_text(text)
        with pytest.raises(ConfigError):
            flip(file, "page", "5%", who="me", why="a try")
        assert file.read_text() == text + "routes: again\n"
        assert not history_file(file).exists()


class TestAHistoryThatIsFull:
    """As on a full disk: files may be as large as the history is, and a few bytes more."""

    def run(self, file: Path, call: str) -> subprocess.CompletedProcess[str]:
        history = history_file(file)
        history.write_text("{}\n" * 400)
        room = history.stat().st_size + 20
        code = (
            "from pathlib import Path; from bridge.proxy.tools.flip import *; "
            f"file = Path({str(file)!r}); done = {call}; print(done.unrecorded)"
        )
        return subprocess.run(
            [sys.executable, "-c", code],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_raises_no_share_and_is_as_it_was(self, file: Path) -> None:
        done = self.run(file, "flip(file, 'page', '5%', who='me', why='a try')")
        assert "File too large; nothing was changed" in done.stderr
        assert file.read_text() == TEXT
        assert history_file(file).read_text() == "{}\n" * 400

    def test_keeps_nobody_from_taking_a_share_back(self, file: Path) -> None:
        done = self.run(file, "flip_all(file, '0%', who='me', why='back')")
        assert done.stdout == f"{history_file(file)}: File too large\n", done.stderr
        assert all(not route.share for route in load(file).routes)
        assert history_file(file).read_text() == "{}\n" * 400


WRITTEN = {
    "plain": "python: {}",
    "quoted": "python: '{}'",
    "anchor": "python: &s{n} {}",
    "quoted anchor": 'python: &s{n} "{}"',
    "next line": "python:\n      {}",
    "anchor, next line": "python: &s{n}\n      {}",
    "folded": "python: >-\n      {}",
    "alias": "python: *s{of}",
}
ANCHORS = [name for name, text in WRITTEN.items() if "&" in text]


@settings(deadline=None, max_examples=60)
@given(ways=st.lists(st.sampled_from(sorted(WRITTEN)), min_size=1, max_size=8), odd=st.booleans())
def test_all_goes_back_however_shares_are_written_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, ways: list[str], odd: bool
) -> None:
    """What `ALL 0%` does not say to be left behind is at 0%; no other letter changes."""
    path = tmp_path_factory.mktemp("all") / "routes.yaml"
    routes, shares, anchor = "", {}, None
    for n, way in enumerate(ways):
        if way == "alias" and anchor is None:
            way = "plain"
        share = shares[f"r{anchor}"] if way == "alias" else f"{n + 1}%"
        written = WRITTEN[way].format(share, n=n, of=anchor)
        routes += f"  - name: r{n}\n    path: /r{n}\n    handler: {VIEW}\n    {written}\n"
        shares[f"r{n}"] = share
        anchor = n if way in ANCHORS else anchor
    if odd and anchor is not None:  # the text is somebody else's too
        routes += f"  - {{name: odd, path: /odd, query: {{share: *s{anchor}}}}}\n"
    path.write_text(TOP.replace("{python: 20%}", "{python: 0%}") + routes)
    before, table = path.read_text(), load(path)

    done = flip_all(path, "0%", who="me", why="back")

    left = {one.name for one in done.left}
    assert {one.name for one in done.flips} | left == shares.keys()
    for old, new in zip(table.routes, load(path).routes, strict=True):
        assert new.share == (old.share if new.name in left else 0)
    assert table.route("odd") is None or load(path).route("odd").spec == table.route("odd").spec
    for one in done.left:
        assert (one.share, bool(one.line), bool(one.why)) == (shares[one.name], True, True)
    numbers = [one for one in done.flips if f"`{one.name}`" not in str(done.left)]
    changed = before
    for one in numbers:
        lines = changed.split("\n")
        lines[one.line - 1] = lines[one.line - 1].replace(one.old, "0%")
        changed = "\n".join(lines)
    assert path.read_text() == changed


def test_a_number_with_an_anchor_of_its_own_is_flipped(file: Path) -> None:
    file.write_text(TEXT.replace("python:   0% ", "python: &n 0% "))
    flip(file, "page", "5%", who="me", why="x")
    assert file.read_text() == TEXT.replace("python:   0% ", "python: &n 5% ")


def test_the_same_flip_of_equal_files_makes_equal_tables(tmp_path: Path) -> None:
    """So it may be made on several machines at once."""
    digests = set()
    for machine in ("one", "two"):
        path = tmp_path / machine / "routes.yaml"
        path.parent.mkdir()
        path.write_bytes(TEXT.replace("\n", "\r\n").encode())
        digests.add(flip(path, "page", "5%", who=machine, why="first").flips[0].digest)
        digests.add(load(path).digest)
    assert len(digests) == 1


def test_words_that_are_no_text_are_recorded_as_well_as_they_can(file: Path) -> None:
    flip(file, "page", "5%", who="m\udcff", why="caf\udce9\u2028!")
    (entry,) = read_history(file)
    assert (entry.who, entry.why) == ("m\ufffd", "caf\ufffd\u2028!")


def test_lines_are_counted_as_yaml_counts_them(file: Path) -> None:
    file.write_text("# one\u2028# two\x85# three\n" + TEXT)
    assert flip(file, "page", "5%", who="me", why="x").changed
    assert "python:   5%" in file.read_text()
