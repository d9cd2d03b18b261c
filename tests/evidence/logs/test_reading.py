"""Files of any kind are read to their end, and what is no request is counted and shown."""

from __future__ import annotations

import gzip
import io
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.evidence.logs import Reader, entries

LINE = b'192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5 "-" "curl"\n'


def test_plain_and_packed_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(LINE * 3)
    (tmp_path / "b.gz").write_bytes(gzip.compress(LINE * 4))
    assert len(list(entries([tmp_path / "a", tmp_path / "b.gz"]))) == 7


def test_a_file_of_zstd_is_read_where_its_library_is(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "a.zst").write_bytes(zstandard.ZstdCompressor().compress(LINE * 4))
    assert len(list(entries([tmp_path / "a.zst"]))) == 4


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(LINE * 2))))
    monkeypatch.setattr(sys, "stdin", given)
    assert len(list(entries(["-"]))) == 2


def test_a_packed_file_that_ends_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(LINE.replace(b"/a", b"/%d" % n) for n in range(50_000)))
    (tmp_path / "a.gz").write_bytes(packed[: len(packed) // 2])
    reader = Reader([tmp_path / "a.gz"])
    assert len(list(reader.entries())) > 1000
    assert "cannot be read to its end" in reader.notes[0]


HOSTILE = st.one_of(
    st.binary(max_size=300).map(lambda raw: raw.replace(b"\n", b"") + b"\n"),
    st.sampled_from([b"\x00" * 50 + b"\n", b"\xff\xfe\n", b'"' * 99 + b"\n", b"\\" * 99 + b"\n"]),
)


@given(st.lists(st.one_of(st.just(LINE), HOSTILE), max_size=30))
def test_every_line_is_a_request_or_is_counted_as_none(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    log = tmp_path_factory.getbasetemp() / "hostile"
    log.write_bytes(b"".join([LINE, *lines]))
    reader = Reader([log])
    found = list(reader.entries())
    assert len(found) + reader.unread == reader.lines
    assert sum(one.agent == "curl" and one.target == "/a" for one in found) >= 1 + lines.count(LINE)
    whole = sum(1 for line in lines if line.strip(b"\r\n"))
    assert reader.lines == 1 + whole


def test_a_line_without_an_end_costs_no_memory_and_hides_no_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open(log, "wb") as file:
        file.write(LINE)
        for _ in range(40):
            file.write(b"x" * 2**20)
        file.write(b"\n" + LINE)
    tracemalloc.start()
    reader = Reader([log])
    assert len(list(reader.entries())) == 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 2**20
    assert reader.unread == 1


def test_a_file_that_is_no_log_says_what_was_expected_and_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("dear diary\nnothing happened\n")
    with pytest.raises(ConfigError, match=r"expected: .*combined.*JSON.*first line: 'dear diary'"):
        list(entries([log]))


def test_a_log_that_begins_with_odd_lines_is_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"odd\n" * 500 + LINE)
    reader = Reader([log])
    assert len(list(reader.entries())) == 1
    assert (reader.unread, reader.examples) == (500, ["odd"] * 3)


def test_an_empty_log_has_no_requests(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"")
    assert list(entries([tmp_path / "log"])) == []


def test_a_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        list(entries([tmp_path / "none"]))


def test_what_was_read_is_told_up_to_the_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.gz"
    log.write_bytes(gzip.compress(LINE * 1000))
    told: list[tuple[int, int | None]] = []
    list(entries([log], on_progress=lambda done, total: told.append((done, total))))
    size = log.stat().st_size
    assert told[-1] == (size, size)
