"""Small files that several processes share."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import StateUnreadable
from bridge.files import ProcessFiles, shared_token

DEAD = 2**22 + 1
"""No process has this id."""


def test_all_who_ask_for_a_token_get_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "state" / "loops.token"
    with ThreadPoolExecutor(16) as threads:
        tokens = set(threads.map(shared_token, [path] * 64))
    (token,) = tokens
    assert len(token) >= 32
    assert shared_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["loops.token"]


def test_a_token_that_cannot_be_had_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert shared_token(tmp_path / "file" / "loops.token") == ""
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert shared_token(tmp_path / "bytes") == ""


class TestProcessFiles:
    def test_each_process_says_what_it_is_and_the_dead_are_left_out(self, tmp_path: Path) -> None:
        files = ProcessFiles(tmp_path, "workers")
        files.write("b", {"pid": os.getpid(), "is": "alive"})
        files.write("a", {"pid": os.getppid(), "is": "alive too"})
        files.write("c", {"pid": DEAD, "is": "dead"})
        assert files.read(lambda fields: fields["is"]) == ["alive too", "alive"]
        assert [path.stem for path in files.paths()] == ["a", "b", "c"]

    def test_files_of_the_dead_go_where_that_is_wanted(self, tmp_path: Path) -> None:
        files = ProcessFiles(tmp_path, "workers")
        files.write("alive", {"pid": os.getpid()})
        files.write("dead", {"pid": DEAD})
        files.read(lambda fields: fields, tidy=True)
        assert [path.stem for path in files.paths()] == ["alive"]

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "{}", '"pid"', '{"pid": 1}', '{"pid": "1", "is": ""}']
    )
    def test_what_another_version_wrote_is_left_out(self, tmp_path: Path, text: str) -> None:
        files = ProcessFiles(tmp_path, "workers")
        files.write("good", {"pid": os.getpid(), "is": "good"})
        files.path("other").write_text(text)
        assert files.read(lambda fields: fields["is"]) == ["good"]

    def test_a_file_of_another_user_hides_no_other_where_dead_ones_are_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Workers and relays may run as several users; root reads everything, so it is played."""
        files = ProcessFiles(tmp_path, "queue")
        files.write("mine", {"pid": os.getpid()})
        files.write("theirs", {"pid": os.getpid()})
        read = Path.read_text

        def refuse(path: Path, *how: Any, **more: Any) -> str:
            if path.stem == "theirs":
                raise PermissionError(13, "Permission denied")
            return read(path, *how, **more)

        monkeypatch.setattr(Path, "read_text", refuse)

        assert len(files.read(lambda fields: fields, tidy=True)) == 1
        with pytest.raises(StateUnreadable):
            files.read(lambda fields: fields)

    def test_a_process_removes_its_own(self, tmp_path: Path) -> None:
        files = ProcessFiles(tmp_path, "workers")
        files.write("mine", {"pid": os.getpid()})
        files.remove("mine")
        files.remove("mine")
        assert files.paths() == []

    def test_where_nobody_has_worked_nobody_works(self, tmp_path: Path) -> None:
        assert ProcessFiles(tmp_path / "none", "workers").read(lambda fields: fields) == []
