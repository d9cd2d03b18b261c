"""Small files that several processes share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bridge.files import shared_token


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
