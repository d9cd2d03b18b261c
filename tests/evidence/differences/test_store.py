"""Evidence is counted by release, grouped, shown by samples, and bounded."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.errors import BridgeError
from bridge.evidence.answers import Answer, Asked
from bridge.evidence.differences.file import ASIDE, NAME
from bridge.evidence.differences.found import Counts, Kind, Shown
from bridge.evidence.differences.store import Evidence
from bridge.evidence.differences.tables import ELSEWHERE, MOST_GROUPS
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.evidence.differences.notes import answer, difference, kept, note


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    found = Evidence(tmp_path / "state", kept())
    yield found
    found.close()


def test_each_kind_is_counted(evidence: Evidence) -> None:
    for many, kind in enumerate(Kind, 1):
        for _ in range(many):
            evidence.note(note(kind.value))

    assert evidence.counts("r1", "d1") == {"project": Counts(1, 2, 3, 4, 5, 6)}
    assert Counts(1, 2, 3, 4, 5, 6).compared == 10


def test_what_both_sources_have_found_is_added_up(evidence: Evidence) -> None:
    evidence.note(note())
    evidence.note(note(source="shadow"))

    assert evidence.counts("r1", "d1")["project"].same == 2


def test_evidence_of_another_release_or_of_other_data_rules_does_not_count(
    evidence: Evidence,
) -> None:
    evidence.note(note("different"))

    assert evidence.counts("r2", "d1") == {}
    assert evidence.counts("r1", "d2") == {}
    assert evidence.counts("r1") == {}


def test_where_nothing_was_noted_nothing_is_found_and_nothing_made(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "state")

    assert (evidence.counts("r1"), evidence.groups(), evidence.group(1)) == ({}, [], None)
    assert evidence.clear() == 0
    assert not (tmp_path / "state").exists()


def test_equal_differences_are_a_group(evidence: Evidence) -> None:
    evidence.note(note("different", at=5.0, source="shadow"))
    evidence.note(note("different", at=3.0))
    evidence.note(note("different", differences=[difference("li[2]", "li")]))
    evidence.note(note("different", differences=[difference("li[7]", "li")]))
    evidence.note(note("noise"))
    evidence.note(note("different", route="other"))

    found = [(one.route, one.place, one.kind.value, one.count) for one in evidence.groups()]
    assert found == [
        ("project", "html > body > p", "different", 2),
        ("project", "li", "different", 2),
        ("other", "html > body > p", "different", 1),
        ("project", "html > body > p", "noise", 1),
    ]
    first = evidence.groups("project")[0]
    assert (first.first, first.last, first.sources) == (3.0, 5.0, ("compare", "shadow"))
    assert [one.route for one in evidence.groups("other")] == ["other"]


def test_a_request_counts_once_in_a_group(evidence: Evidence) -> None:
    evidence.note(
        note("different", differences=[difference("li[1]", "li"), difference("li", "li")])
    )

    (group,) = evidence.groups()
    assert group.count == 1


def test_a_group_counts_its_newest_release(evidence: Evidence) -> None:
    for _ in range(3):
        evidence.note(note("different", at=1.0))
    evidence.note(note("different", at=2.0, release="r2"))

    (group,) = evidence.groups()
    assert (group.count, group.release, group.first) == (1, "r2", 1.0)


def test_a_sample_has_the_request_and_both_answers(evidence: Evidence) -> None:
    python = answer("<p>two</p>", [("X-Made-By", "python")], 404)
    python = type(python)(**{**_fields(python), "reads": {("project", "7"): 12}})
    evidence.note(note("different", python=python, why="so it is"))

    found = evidence.group(evidence.groups()[0].id)
    assert found is not None
    (sample,) = found[1]
    assert (sample.asked.target, sample.asked.host) == ("/project/bash", "www.example.org")
    assert sample.legacy is not None
    assert sample.python is not None
    assert (sample.legacy.text, sample.legacy.status) == ("<p>one</p>", 200)
    assert (sample.python.text, sample.python.status) == ("<p>two</p>", 404)
    assert ("X-Made-By", "python") in sample.python.headers
    assert sample.python.reads == {"project 7": 12}
    assert (sample.difference.legacy, sample.difference.python) == ("one", "two")
    assert sample.why == "so it is"


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


def _texts(evidence: Evidence) -> list[str]:
    found = evidence.group(evidence.groups()[0].id)
    assert found is not None
    return [one.legacy.text for one in found[1] if one.legacy]


def test_the_first_samples_stay_and_the_last_one_is_refreshed_after_a_while(
    evidence: Evidence,
) -> None:
    for minute in range(20):
        evidence.note(note("different", legacy=answer(f"at {minute}"), at=minute * 60.0))

    assert _texts(evidence) == ["at 0", "at 1", "at 17"]


def test_samples_of_an_older_release_give_way(evidence: Evidence) -> None:
    for release in ("r1", "r2"):
        for number in range(2):
            text = answer(f"{release} {number}")
            evidence.note(note("different", legacy=text, release=release))

    assert _texts(evidence) == ["r1 1", "r2 0", "r2 1"]


def test_one_page_with_many_differences_is_kept_once(evidence: Evidence, tmp_path: Path) -> None:
    places = [difference(f"p{number}") for number in range(10)]
    noise = os.urandom(60_000).hex()
    evidence.note(note("different", legacy=answer(noise), differences=places))

    assert len(evidence.groups()) == 10
    assert all(evidence.group(one.id)[1][0].legacy.text == noise for one in evidence.groups())  # type: ignore[index,union-attr]
    assert (tmp_path / "state" / NAME).stat().st_size < 3 * len(noise)


def test_samples_are_bounded_in_bytes_and_those_of_noise_go_first(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, kept(size="64KiB"))
    for number in range(20):
        text = answer(os.urandom(4000).hex())
        place = [difference(f"place {number}")]
        evidence.note(note("different", legacy=text, differences=place, at=number))
        evidence.note(note("noise", legacy=text, differences=place, at=number))

    having = [one for one in evidence.groups() if evidence.group(one.id)[1]]  # type: ignore[index]
    assert {one.kind.value for one in having} == {"different"}
    assert 5 < len(having) < 16
    assert having[-1].place == "place 19"
    assert len(evidence.groups()) == 40


def test_samples_and_groups_are_bounded_in_days(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, kept(age="1d"))
    evidence.note(note("different", at=0.0))
    evidence.close()

    again = Evidence(tmp_path, kept(age="1d"))
    again.note(note(at=2 * 86400.0))

    assert again.groups() == []
    assert again.counts("r1", "d1")["project"].different == 1


def test_groups_are_bounded_and_the_rest_is_one_more(evidence: Evidence) -> None:
    for number in range(MOST_GROUPS + 50):
        evidence.note(note("different", differences=[difference(f"place {number}")]))

    found = evidence.groups()
    assert len(found) == MOST_GROUPS + 1
    assert (found[0].place, found[0].count) == (ELSEWHERE, 50)
    assert evidence.counts("r1", "d1")["project"].different == MOST_GROUPS + 50


def _fill(state: Path, many: int) -> tuple[Evidence, int]:
    """As many notes, of routes, places and releases of all kinds; the size of the files."""
    evidence = Evidence(state, kept(size="1MiB"))
    texts = [os.urandom(3000).hex() for _ in range(50)]
    kinds = ["same"] * 6 + ["different", "noise", "lag", "declined"]
    for number in range(many):
        evidence.note(
            note(
                kinds[number % 10],
                route=f"route{number % 7}",
                release=f"r{number // 2000}",
                legacy=answer(texts[number % 50]),
                differences=[difference(f"at {number * 7919 % 5000}")] if number % 10 > 5 else [],
                at=number * 1.0,
            )
        )
    assert evidence.lost == 0
    evidence.close()
    return evidence, sum(one.stat().st_size for one in state.iterdir())


def test_the_file_is_bounded_over_many_notes(tmp_path: Path) -> None:
    evidence, size = _fill(tmp_path, 20_000)

    assert sum(one.compared + one.declined for one in evidence.counts("r9", "d1").values()) == 2000
    assert size < 8 * 2**20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_file_is_bounded_over_a_million_notes(tmp_path: Path) -> None:
    assert _fill(tmp_path, 1_000_000)[1] < 12 * 2**20


def test_only_the_owner_may_read_it(evidence: Evidence, tmp_path: Path) -> None:
    evidence.note(note("different"))

    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()
    }
    assert NAME in modes
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_service(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    evidence = Evidence(tmp_path)
    evidence.note(note("different"))

    owners = {path.name: path.stat().st_uid for path in tmp_path.iterdir()}
    assert {NAME, f"{NAME}-wal", f"{NAME}-shm"} <= set(owners)
    assert set(owners.values()) == {65534}, owners
    evidence.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0o755, "run this as the user of `bridgectl serve`"),
        (0o700, "cannot be read as this user"),
    ],
    ids=["file", "folder"],
)
def test_another_user_is_told_that_it_cannot_be_read(mode: int, says: str) -> None:
    """It is not that nothing was compared."""
    with TemporaryDirectory() as folder:  # that of pytest is root's alone
        os.chmod(folder, mode)
        Evidence(Path(folder)).note(note())
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                Evidence(Path(folder)).counts("r1", "d1")
            except BridgeError as error:
                os._exit(7 if says in str(error) else 8)
            except BaseException:
                os._exit(9)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("junk", [b"", b"no database\n" * 500, b"SQLite format 3\0" + b"x" * 5000])
def test_a_foreign_file_is_put_aside_and_a_new_one_begun(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / NAME).write_bytes(junk)
    evidence = Evidence(tmp_path)
    with capture_logs() as logs:
        evidence.note(note())

    assert evidence.counts("r1", "d1")["project"].same == 1
    assert (tmp_path / ASIDE).read_bytes() == junk
    assert "begins anew" in logs[0]["event"]


def test_another_programs_database_is_put_aside_whole(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / NAME) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    Evidence(tmp_path).note(note())

    with sqlite3.connect(tmp_path / ASIDE) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchone() == ("theirs",)
    other.close()


@pytest.mark.parametrize("open_before", [True, False])
def test_a_file_that_becomes_damaged_is_put_aside(tmp_path: Path, open_before: bool) -> None:
    first = Evidence(tmp_path)
    for number in range(40):
        first.note(note("different", differences=[difference(f"place {number}")]))
    first.close()
    evidence = Evidence(tmp_path)
    if open_before:
        assert evidence.counts("r1", "d1")["project"].different == 40
    data = bytearray((tmp_path / NAME).read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    (tmp_path / NAME).write_bytes(data)

    with pytest.raises(BridgeError, match="is damaged"):
        Evidence(tmp_path).groups()
    with capture_logs() as logs:
        evidence.note(note())

    assert any("begins anew" in one["event"] for one in logs)
    assert evidence.counts("r1", "d1")["project"] == Counts(same=1)
    assert evidence.lost == 0


def test_every_process_goes_on_with_the_new_file(tmp_path: Path) -> None:
    one, two = Evidence(tmp_path), Evidence(tmp_path)
    one.note(note())
    two.note(note())
    (tmp_path / NAME).unlink()
    one.note(note())
    two.note(note())

    assert Evidence(tmp_path).counts("r1", "d1")["project"].same == 2


def test_what_cannot_be_written_now_is_counted_later(tmp_path: Path) -> None:
    """A difference that is lost while equal answers are counted would be a lie."""
    now = [0.0]
    evidence = Evidence(tmp_path, clock=lambda: now[0])
    evidence.note(note())
    with sqlite3.connect(tmp_path / NAME, isolation_level=None) as other, capture_logs() as logs:
        other.execute("BEGIN EXCLUSIVE")
        evidence.note(note("different"))
        evidence.note(note("different"))
        other.execute("ROLLBACK")
    other.close()
    assert [one["event"] for one in logs] == ["evidence cannot be written; it is counted in memory"]
    assert repr(evidence) == f"<Evidence {tmp_path}, 2 to be counted, 2 lost>"

    now[0] = 60.0
    evidence.note(note())

    assert evidence.counts("r1", "d1")["project"] == Counts(same=2, different=2)


def test_what_is_still_to_be_counted_is_written_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    evidence = Evidence(tmp_path / "state")
    evidence.note(note("different"))
    (tmp_path / "state").unlink()
    evidence.close()

    assert Evidence(tmp_path / "state").counts("r1", "d1")["project"].different == 1


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    """A limit of the size of files, which SQLite meets as a write that fails."""
    code = (
        "import resource, signal\n"
        "from pathlib import Path\n"
        "from bridge.evidence.differences.store import Evidence\n"
        "from tests.evidence.differences.notes import answer, difference, note\n"
        "import os\n"
        f"evidence = Evidence(Path({str(tmp_path)!r}))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "evidence.note(note())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "for number in range(50):\n"
        "    text = answer(os.urandom(20_000).hex())\n"
        "    evidence.note(note('different', legacy=text, differences=[difference(f'{number}')]))\n"
        "print(evidence.lost)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 0
    evidence = Evidence(tmp_path)
    evidence.note(note())
    assert evidence.counts("r1", "d1")["project"].same == 2


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    evidence = Evidence(tmp_path)
    with capture_logs() as logs:
        evidence.note(note("different"))

    assert "is a link; remove it" in logs[0]["error"]
    assert (tmp_path / "elsewhere").read_text() == "precious"


WRITER = """
import sys
from pathlib import Path
from bridge.evidence.differences.store import Evidence
from tests.evidence.differences.notes import answer, difference, note
evidence = Evidence(Path(sys.argv[1]))
many = int(sys.argv[2])
number = 0
while many == 0 or number < many:
    number += 1
    place = [difference(f"place {number % 20}")]
    evidence.note(note("different", differences=place, legacy=answer(f"<p>{number}" * 500)))
    if number == 1:
        print("writes", flush=True)
evidence.close()
"""


def _writer(state: Path, many: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(state), str(many)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_several_processes_write_and_read_at_once(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, 200) for _ in range(3)]
    evidence = Evidence(tmp_path)
    counted = []
    for writer in writers:
        while writer.poll() is None:
            evidence.note(note())
            counted.append(evidence.counts("r1", "d1")["project"].different)
        assert writer.stdout is not None
        writer.stdout.close()

    assert [one.returncode for one in writers] == [0, 0, 0]
    assert evidence.counts("r1", "d1")["project"].different == 600
    assert counted == sorted(counted)
    assert sum(one.count for one in evidence.groups()) == 600


def test_it_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    before = 0
    for _ in range(5):
        writer = _writer(tmp_path, 0)
        assert writer.stdout is not None
        with writer.stdout as said:
            assert said.readline() == "writes\n"
            evidence = Evidence(tmp_path)

            def more(old: int = before, evidence: Evidence = evidence) -> bool:
                return evidence.counts("r1", "d1")["project"].different > old + 30

            wait_for(more, 20, "notes of the writer")
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
        after = evidence.counts("r1", "d1")["project"].different
        assert after == sum(one.count for one in evidence.groups())
        assert len(_texts(evidence)) <= 3
        before = after
    assert not (tmp_path / ASIDE).exists()


def test_threads_may_share_one(evidence: Evidence) -> None:
    def many() -> None:
        for number in range(50):
            evidence.note(note("different", differences=[difference(f"place {number}")]))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert evidence.counts("r1", "d1")["project"].different == 200


def test_a_process_that_was_forked_has_its_own(evidence: Evidence) -> None:
    evidence.note(note())
    child = os.fork()
    if child == 0:
        evidence.note(note())
        os._exit(0)
    os.waitpid(child, 0)
    evidence.note(note())

    assert evidence.counts("r1", "d1")["project"].same == 3


WILD = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["\ud800", "\0", "sid=\udcff%ff", "?token=\ud800\udfff1234567", "a" * 50_000, "\x1b[2J\u202e"]
)


@settings(max_examples=25)
@given(st.lists(WILD, min_size=12, max_size=12), st.binary(max_size=60))
def test_any_text_can_be_noted(texts: list[str], body: bytes) -> None:
    folder = TemporaryDirectory()
    evidence = Evidence(Path(folder.name), kept(hide=["x(?=y)"]))
    one = Shown(*texts[:5])
    headers = [("Cookie", texts[5]), (texts[6], texts[7]), ("Location", texts[8])]
    odd = Answer.of(200, headers, body, texts[9], {(texts[9], texts[10]): 1})
    asked = Asked("GET", texts[10], texts[11], headers)
    evidence.note(note("different", asked=asked, legacy=odd, differences=[one], why=texts[5]))

    (group,) = evidence.groups()
    found = evidence.group(group.id)
    evidence.close()
    folder.cleanup()
    assert found is not None
    assert len(found[1]) == 1
    assert evidence.lost == 0


def test_a_route_a_group_or_all_can_be_forgotten(evidence: Evidence) -> None:
    for route in ("project", "other"):
        places = [difference("p"), difference("td")]
        evidence.note(note("different", route=route, differences=places))
    first = evidence.groups("project")[0]

    assert evidence.clear(number=first.id) == 1
    assert len(evidence.groups("project")) == 1
    assert evidence.counts("r1", "d1")["project"].different == 1
    assert evidence.clear("project") == 1
    assert list(evidence.counts("r1", "d1")) == ["other"]
    assert evidence.clear() == 2
    assert (evidence.groups(), evidence.counts("r1", "d1")) == ([], {})


def test_the_number_of_a_group_that_is_gone_is_no_other_groups(evidence: Evidence) -> None:
    evidence.note(note("different"))
    (old,) = evidence.groups()
    evidence.clear()
    evidence.note(note("different", differences=[difference("elsewhere")]))

    assert evidence.group(old.id) is None
