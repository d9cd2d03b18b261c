"""Pages: short PHP scripts that use the producer, run with a real PHP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.php import run_php
from tests.php.page_site import PRODUCER, Listener, Page


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """page(code, **options) -> what the page printed; its $bridge has these options."""

    def _page(code: str, **options: Any) -> str:
        script = tmp_path / "page.php"
        script.write_text(
            "<?php error_reporting(-1); ini_set('display_errors', '1');\n"
            f"require {str(PRODUCER)!r};\n"
            f"$bridge = new BridgeProducer(json_decode({json.dumps(options)!r}, true));\n"
            f"{code}\n",
            encoding="utf-8",
        )
        return run_php(script, settings={"html_errors": "0", "log_errors": "0"}, bound=30)

    return _page


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    listeners: list[Listener] = []

    def _listen(*answer: bytes) -> Listener:
        listeners.append(Listener(*answer))
        return listeners[-1]

    yield _listen
    for listener in listeners:
        listener.close()
