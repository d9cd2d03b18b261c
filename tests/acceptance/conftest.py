"""Servers that several of these tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.php import PhpServer

PAGES = Path(__file__).parent / "apps" / "php"


@pytest.fixture(scope="session")
def php(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhpServer]:
    """The legacy side: `apps/php/router.php`."""
    directory = tmp_path_factory.mktemp("php")
    with PhpServer(directory, PAGES, router=PAGES / "router.php", workers=8) as server:
        yield server
