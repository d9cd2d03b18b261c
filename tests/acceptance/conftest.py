"""Servers that several of these tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.php import PhpServer

PAGES = Path(__file__).parent / "apps" / "php"


@pytest.fixture(scope="session")
def php(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhpServer]:
    """The legacy side: `apps/php/router.php`. Its pages find a directory of theirs in DESK."""
    directory = tmp_path_factory.mktemp("php")
    desk = directory / "desk"
    desk.mkdir()
    with PhpServer(
        directory, PAGES, router=PAGES / "router.php", env={"DESK": str(desk)}, workers=8
    ) as server:
        yield server
