"""The reader of spool directories: nothing lost, nothing torn, nobody waited for."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bridge.queue.events import MAX_EVENT_BYTES
from bridge.queue.relay import spool as module
from bridge.queue.relay.spool import Spool
from stack.php import run_php
from stack.process import REPOSITORY

WRITER = """
import fcntl, os, sys
directory, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
path = os.path.join(directory, "current.spool")
for number in range(count):
    line = f"{writer}:{number}:".encode() + b"x" * (number % 700)
    while True:
        file = open(path, "ab+")
        fcntl.flock(file, fcntl.LOCK_EX)
        mine = os.fstat(file.fileno())
        try:
            there = os.stat(path)
        except FileNotFoundError:
            there = None
        if there and there.st_ino == mine.st_ino:
            break
        file.close()
    if mine.st_size:
        file.seek(-1, 2)
        if file.read(1) != b"\\n":
            line = b"\\n" + line
    file.write(line + b"\\n")
    file.flush()
    if mine.st_size > 20000:
        os.rename(path, os.path.join(directory, f"1-{writer}-{number}.spool"))
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()
"""


def write(directory: Path, text: bytes, name: str = "current.spool") -> None:
    with (directory / name).open("ab") as file:
        file.write(text)


def read_all(spool: Spool) -> list[bytes]:
    """Everything that waits, file by file."""
    found: list[bytes] = []
    while (lines := spool.lines()) is not None:
        found += lines
        spool.done()
    return found


@contextmanager
def writers(directory: Path, count: int, lines: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    words = [sys.executable, "-c", textwrap.dedent(WRITER), str(directory)]
    running = [subprocess.Popen([*words, str(number), str(lines)]) for number in range(count)]
    try:
        yield running
    finally:
        for one in running:
            one.kill()
            one.wait()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path)
    yield spool
    spool.close()


def test_lines_come_without_their_ends_and_the_file_goes(spool: Spool, tmp_path: Path) -> None:
    write(tmp_path, b"one\ntwo\n\nthree")

    assert spool.lines() == [b"one", b"two", b"three"]
    spool.done()
    assert spool.lines() is None
    assert os.listdir(tmp_path) == []


def test_an_empty_spool_has_nothing(spool: Spool, tmp_path: Path) -> None:
    assert spool.lines() is None
    write(tmp_path, b"")
    assert spool.lines() is None


def test_what_is_not_done_comes_again(spool: Spool, tmp_path: Path) -> None:
    write(tmp_path, b"one\n")

    assert spool.lines() == spool.lines() == [b"one"]
    spool.close()
    assert read_all(Spool(tmp_path)) == [b"one"]


def test_files_are_read_in_the_order_of_their_names(spool: Spool, tmp_path: Path) -> None:
    write(tmp_path, b"two\n", "1700000002-b.spool")
    write(tmp_path, b"one\n", "1700000001-z.spool")
    write(tmp_path, b"draft", "1700000000-a.spool.tmp")
    write(tmp_path, b"new\n")

    assert read_all(spool) == [b"one", b"two", b"new"]


def test_a_long_file_comes_in_pieces_that_are_whole_lines(spool: Spool, tmp_path: Path) -> None:
    lines = [b"%d:" % number + b"x" * 10_000 for number in range(1000)]
    write(tmp_path, b"\n".join(lines))

    pieces = []
    while (piece := spool.lines()) is not None:
        pieces.append(piece)
        assert os.listdir(tmp_path) != []
        spool.done()
    assert len(pieces) > 4
    assert [line for piece in pieces for line in piece] == lines
    assert os.listdir(tmp_path) == []


CHUNK = 2 * MAX_EVENT_BYTES


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("end", [b"", b"\nnext\n"])
def test_a_line_without_end_is_cut_and_its_neighbours_are_whole(
    spool: Spool, tmp_path: Path, length: int, end: bytes
) -> None:
    write(tmp_path, b"first\n" + b"x" * length + end)

    found = read_all(spool)
    assert found[0] == b"first"
    assert found[1] == b"x" * min(length, CHUNK)
    assert found[2:] == ([b"next"] if end else [])


def test_two_readers_do_not_get_the_same_file(spool: Spool, tmp_path: Path) -> None:
    write(tmp_path, b"one\n", "1-a.spool")
    write(tmp_path, b"two\n", "2-b.spool")
    other = Spool(tmp_path)

    assert spool.lines() == [b"one"]
    assert other.lines() == [b"two"]
    spool.done()
    assert spool.lines() is None
    other.close()
    assert spool.lines() == [b"two"]


def test_a_writer_that_was_stopped_holds_up_nobody(spool: Spool, tmp_path: Path) -> None:
    write(tmp_path, b"half")
    write(tmp_path, b"one\n", "1-a.spool")
    with (tmp_path / "current.spool").open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert read_all(spool) == [b"one"]
    assert read_all(spool) == [b"half"]


def test_a_file_that_cannot_be_read_holds_up_no_other_and_is_told(
    spool: Spool, tmp_path: Path
) -> None:
    (tmp_path / "0-folder.spool").mkdir()
    write(tmp_path, b"one\n", "1-a.spool")

    assert spool.lines() == [b"one"]
    spool.done()
    with pytest.raises(OSError, match=r"0-folder\.spool"):
        spool.lines()


def test_a_missing_directory_is_an_error_and_no_empty_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "not there")
    with pytest.raises(FileNotFoundError, match="not there"):
        spool.lines()
    with pytest.raises(FileNotFoundError, match="not there"):
        spool.waiting()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Spool(tmp_path / "file").lines()


@contextmanager
def _socket_at(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        yield


@pytest.mark.parametrize("name", ["current.spool", "0-first.spool"])
@pytest.mark.parametrize("kind", ["fifo", "link", "dangling", "hard link", "folder", "socket"])
def test_what_php_would_never_make_is_named_and_not_read_and_its_neighbours_are(
    tmp_path: Path, name: str, kind: str
) -> None:
    secret, spools, path = tmp_path / "secret", tmp_path / "s", tmp_path / "s" / name
    secret.write_bytes(b"somebody else's\n")
    spools.mkdir()
    with ExitStack() as stack:
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "link":
                path.symlink_to(secret)
            case "dangling":
                path.symlink_to(tmp_path / "nothing")
            case "hard link":
                path.hardlink_to(secret)
            case "folder":
                path.mkdir()
            case "socket":
                stack.enter_context(_socket_at(path))
        write(spools, b"mine\n", "1-mine.spool")
        spool = Spool(spools)

        assert spool.lines() == [b"mine"]
        spool.done()
        with pytest.raises(OSError, match="link, a FIFO or the like"):
            spool.lines()
        assert spool.strangers() == [path]
        assert path.is_symlink() or path.exists()
        assert secret.read_bytes() == b"somebody else's\n"


def test_the_files_that_wait_are_counted(spool: Spool, tmp_path: Path) -> None:
    assert spool.waiting() == 0
    write(tmp_path, b"")
    assert spool.waiting() == 0
    write(tmp_path, b"x\n")
    write(tmp_path, b"x\n", "1-a.spool")
    assert spool.waiting() == 2


def test_nothing_is_lost_or_torn_while_many_write_and_two_read(tmp_path: Path) -> None:
    spools = [Spool(tmp_path), Spool(tmp_path)]
    found: list[bytes] = []

    def look() -> int:
        before = len(found)
        for one in spools:
            if (lines := one.lines()) is not None:
                found.extend(lines)
                one.done()
        return len(found) - before

    with writers(tmp_path, 4, 1500) as running:
        while any(one.poll() is None for one in running):
            look()
        assert [one.returncode for one in running] == [0] * 4
    while look():
        pass
    assert sorted(found) == sorted(
        b"%d:%d:" % (writer, number) + b"x" * (number % 700)
        for writer in range(4)
        for number in range(1500)
    )


def test_a_writer_killed_in_the_middle_leaves_only_its_own_torn_line(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    found: list[bytes] = []
    with writers(tmp_path, 3, 100_000) as running:
        while len(found) < 300:
            found += read_all(spool)
        for one in running:
            one.send_signal(signal.SIGKILL)
            one.wait()
    found += read_all(spool)
    for writer in range(3):
        numbers = [int(line.split(b":")[1]) for line in found if line.startswith(b"%d:" % writer)]
        assert sorted(numbers)[:-1] == list(range(len(numbers) - 1))


def test_what_the_php_producer_spools_arrives(tmp_path: Path) -> None:
    script = tmp_path / "spool.php"
    directory = tmp_path / "spool"
    directory.mkdir()
    script.write_text(
        f"<?php require '{REPOSITORY}/php/BridgeProducer.php';"
        f" $bridge = new BridgeProducer(array('spool_dir' => '{directory}', 'source' => '/x'));"
        " for ($n = 0; $n < 500; $n++)"
        " if (!$bridge->spool('project', 'changed', 'k' . $argv[1], $n, array('n' => $n)))"
        " exit(1);"
    )
    spool, found = Spool(directory), []
    running = [
        subprocess.Popen(["php", str(script), str(number)], stdout=subprocess.DEVNULL)
        for number in range(3)
    ]
    while any(one.poll() is None for one in running):
        found += read_all(spool)
    assert [one.returncode for one in running] == [0] * 3
    found += read_all(spool)
    assert sorted((e["subject"], int(e["sequence"])) for e in map(json.loads, found)) == sorted(
        (f"k{number}", n) for number in range(3) for n in range(500)
    )


def test_the_lock_is_the_one_that_php_takes(tmp_path: Path) -> None:
    """flock(), not fcntl(): the two do not see each other."""
    write(tmp_path, b"x\n")
    script = tmp_path / "lock.php"
    script.write_text(
        f"<?php $f = fopen('{tmp_path}/current.spool', 'r');"
        " echo flock($f, LOCK_EX | LOCK_NB) ? 'free' : 'held';"
    )
    with (tmp_path / "current.spool").open("rb") as file:
        assert module._lock_soon(file)
        assert run_php(script) == "held"
    assert run_php(script) == "free"
