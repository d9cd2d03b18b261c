"""The spool: whatever writers and the reader do at the same time, no line is lost or torn."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from bridge.queue.events import Event
from stack.php import php_program
from stack.ports import free_port
from stack.redis import Redis
from stack.waiting import wait_for
from tests.php.page_site import PRODUCER, PUBLISH, Listener, Page, event_on

SPOOL = (
    "echo json_encode(array($bridge->spool('project', 'changed', 'vim', 1, array('n' => 1)),"
    " $bridge->error()));"
)
FINAL_NAME = re.compile(r"[0-9]{10,}-[0-9a-f]+\.spool")


def lines_of(directory: Path) -> list[bytes]:
    """The lines of all spool files; every file ends with the end of a line."""
    found: list[bytes] = []
    for file in sorted(directory.glob("*.spool")):
        content = file.read_bytes()
        assert content == b"" or content.endswith(b"\n")
        found += content.splitlines()
    return found


def take(directory: Path, name: str) -> bool:
    """Rename current.spool under its lock, as the reader does; false when there is none."""
    path = directory / "current.spool"
    try:
        file = path.open("rb+")
    except FileNotFoundError:
        return False
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            return False
        path.rename(directory / name)
    return True


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Where the spool will be; nothing is there yet."""
    return tmp_path / "deep" / "spool"


def test_a_spooled_change_is_one_line_with_the_event(page: Page, spool: Path) -> None:
    assert json.loads(page(SPOOL, spool_dir=str(spool))) == [True, ""]

    [line] = lines_of(spool)
    event = Event.parse(line)
    assert (event.entity, event.key, event.version, event.data) == ("project", "vim", 1, {"n": 1})


def test_the_file_is_for_its_owner_and_group_alone(page: Page, spool: Path) -> None:
    page(SPOOL, spool_dir=str(spool) + "/")

    assert stat.S_IMODE((spool / "current.spool").stat().st_mode) == 0o660


def test_a_text_with_line_ends_is_still_one_line(page: Page, spool: Path) -> None:
    page(
        r"""$bridge->spool('project', 'changed', "a\nb", 1, array('t' => "x\r\ny\nz"));""",
        spool_dir=str(spool),
    )

    [line] = lines_of(spool)
    assert Event.parse(line).data == {"t": "x\r\ny\nz"}


def test_a_torn_line_does_not_swallow_the_next_one(page: Page, spool: Path) -> None:
    spool.mkdir(parents=True)
    (spool / "current.spool").write_bytes(b'{"specversion":"1.0","id')
    page(SPOOL + SPOOL, spool_dir=str(spool))

    torn, *whole = lines_of(spool)
    assert torn == b'{"specversion":"1.0","id'
    assert [Event.parse(line).key for line in whole] == ["vim", "vim"]


def test_a_long_file_gets_its_final_name_and_a_new_one_begins(page: Page, spool: Path) -> None:
    page(
        "for ($n = 0; $n < 18; $n++) $bridge->spool('project', 'changed', 'k', $n,"
        " array('t' => str_repeat('x', 1000000)));",
        spool_dir=str(spool),
    )

    final, current = sorted(spool.iterdir())
    assert FINAL_NAME.fullmatch(final.name)
    assert current.name == "current.spool"
    assert [Event.parse(line).version for line in lines_of(spool)] == list(range(18))


def test_without_the_option_there_is_no_spool(page: Page) -> None:
    assert json.loads(page(SPOOL)) == [False, "the option spool_dir is not set"]


def test_a_directory_that_cannot_be_made_is_an_error(page: Page, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done, error = json.loads(page(SPOOL, spool_dir=str(tmp_path / "file" / "spool")))
    assert not done
    assert error.startswith("cannot make the directory")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full of Linux")
def test_a_full_disk_is_an_error_and_leaves_nothing_behind(page: Page, spool: Path) -> None:
    spool.mkdir(parents=True)
    (spool / "current.spool").symlink_to("/dev/full")

    done, error = json.loads(page(SPOOL, spool_dir=str(spool)))
    assert not done
    assert "is the disk full?" in error


def test_a_limit_in_the_middle_of_a_line_takes_the_line_back(page: Page, spool: Path) -> None:
    """A limit on the size of files is a full disk as far as write(2) is concerned."""
    page(SPOOL, spool_dir=str(spool))
    before = lines_of(spool)

    printed = page(
        "if (!function_exists('posix_setrlimit')) { echo 'skip'; exit; }"
        " pcntl_signal(SIGXFSZ, SIG_IGN); posix_setrlimit(POSIX_RLIMIT_FSIZE, 4096, 4096);"
        "echo json_encode(array($bridge->spool('project', 'changed', 'k', 2,"
        " array('t' => str_repeat('x', 100000))), $bridge->error()));",
        spool_dir=str(spool),
    )
    if printed == "skip":
        pytest.skip("this PHP has no posix_setrlimit")

    done, error = json.loads(printed)
    assert not done
    assert "is the disk full?" in error
    assert lines_of(spool) == before


def test_publish_spools_what_redis_did_not_take(page: Page, spool: Path) -> None:
    assert json.loads(page(PUBLISH, port=free_port(), spool_dir=str(spool))) == [True, ""]
    assert len(lines_of(spool)) == 1


def test_publish_spools_while_the_breaker_is_open(
    page: Page, listen: Callable[..., Listener], spool: Path
) -> None:
    stalled = listen()
    page(PUBLISH * 3, port=stalled.port, spool_dir=str(spool))

    assert stalled.connections() == 1
    assert len(lines_of(spool)) == 3


def test_publish_spools_what_a_full_redis_refused(
    page: Page, listen: Callable[..., Listener], spool: Path
) -> None:
    """Of many events those that Redis has are not spooled."""
    took = b"$15\r\n1764100000000-0\r\n"
    port = listen(took, b"-OOM command not allowed\r\n", took).port
    printed = page(
        "var_dump($bridge->publishMany(array(array('project', 'deleted', 'a', 1),"
        " array('project', 'deleted', 'b', 1), array('project', 'deleted', 'c', 1))));"
        " echo $bridge->error();",
        port=port,
        spool_dir=str(spool),
        timeout_ms=5000,
    )

    assert printed == "int(3)\n"
    assert [Event.parse(line).key for line in lines_of(spool)] == ["b"]


def test_publish_spools_nothing_that_redis_took(
    page: Page, spool: Path, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    page(PUBLISH, port=redis_server.port, spool_dir=str(spool))

    assert event_on(clean_redis).key == "vim"
    assert not spool.exists()


def test_both_reasons_are_told_when_neither_took_it(page: Page, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done, error = json.loads(page(PUBLISH, port=free_port(), spool_dir=str(tmp_path / "file")))

    assert not done
    assert "no connection to" in error
    assert "cannot" in error.split("; ")[1]


def test_a_writer_that_holds_the_lock_for_ever_stops_no_page(page: Page, spool: Path) -> None:
    spool.mkdir(parents=True)
    with (spool / "current.spool").open("ab") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        assert json.loads(page(SPOOL, spool_dir=str(spool))) == [True, ""]

    names = sorted(file.name for file in spool.iterdir())
    assert FINAL_NAME.fullmatch(names[0])
    assert names[1:] == ["current.spool"]
    assert Event.parse((spool / names[0]).read_bytes().rstrip(b"\n")).key == "vim"


def test_nothing_is_lost_or_torn_while_many_write_and_the_reader_renames(
    spool: Path, tmp_path: Path
) -> None:
    writers, each = 4, 1500
    script = tmp_path / "write.php"
    script.write_text(
        f"<?php require {str(PRODUCER)!r};\n"
        f"$bridge = new BridgeProducer(array('spool_dir' => {str(spool)!r}));\n"
        "for ($n = 0; $n < (int) $argv[2]; $n++) {\n"
        "    $text = str_repeat('x', $n * 37 % 20000);\n"
        "    if (!$bridge->spool('project', 'changed', $argv[1], $n, array('t' => $text))) {\n"
        "        echo $bridge->error();\n"
        "        exit(1);\n"
        "    }\n"
        "}\n",
        encoding="utf-8",
    )
    running = [
        subprocess.Popen(
            [php_program(), str(script), f"writer{number}", str(each)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        for number in range(writers)
    ]
    taken: list[bytes] = []
    renamed = 0

    def read_once() -> bool:
        """Rename, read and remove: what is written to that file later is lost."""
        nonlocal renamed
        if not take(spool, "1700000000-taken.spool"):
            return False
        renamed += 1
        taken.extend((spool / "1700000000-taken.spool").read_bytes().splitlines())
        (spool / "1700000000-taken.spool").unlink()
        return True

    def all_ended() -> bool:
        read_once()
        return all(process.poll() is not None for process in running)

    try:
        wait_for(all_ended, bound=60, what="the writers", interval=0.0001)
    finally:
        for process in running:
            process.kill()
            out, _ = process.communicate()
            assert process.returncode == 0, out

    assert renamed > 10
    assert list(spool.glob("*.tmp")) == []
    seen = sorted((event.key, event.version) for event in map(Event.parse, taken + lines_of(spool)))
    assert seen == [(f"writer{number}", n) for number in range(writers) for n in range(each)]
