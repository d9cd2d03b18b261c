"""What is logged: enough to find the fault, nothing that is a secret."""

from pathlib import Path

import pytest
import structlog
from werkzeug.test import Client

from bridge.proxy.dispatcher import Dispatcher
from tests.proxy.site import TOP, table

FAILING = "tests.proxy.test_logs:failing"


def failing(request: object) -> object:
    """A handler with a secret in a local variable."""
    password = "hunter" + "2"
    raise RuntimeError(f"no answer for {len(password)} characters")


def test_a_failed_handler_is_logged_without_its_local_variables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()  # as under a server where nobody configured the log
    top = TOP.replace("forge.example", "localhost").replace(":8090", ":1")
    ours = table(f'name: x, path: /x, handler: "{FAILING}", python: 100%', top=top)
    Client(Dispatcher(lambda: ours)).get("/x")
    written = capsys.readouterr()
    said = written.out + written.err
    assert "no answer for 7 characters" in said
    assert Path(__file__).name in said
    assert "hunter2" not in said
