"""What is logged: enough to find the fault, nothing that is a secret."""

from pathlib import Path

import pytest
import structlog
from werkzeug.test import Client

from bridge.proxy.accesslog import AccessLog
from bridge.proxy.dispatcher import Dispatcher
from bridge.proxy.hooks import Outcome
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


def test_a_full_disk_costs_lines_of_the_access_log_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """/dev/full takes nothing, as a full disk. It is said once, not for every visitor."""
    structlog.reset_defaults()
    log = AccessLog("/dev/full")
    for _ in range(100):
        log.after_response(Outcome("0123456789abcdef", 1, "abc", "GET"))
    log.close()
    written = capsys.readouterr()
    said = written.out + written.err
    assert said.count("cannot write the access log") == 1
    assert "No space left on device" in said


@pytest.mark.parametrize(
    ("aborted", "by"),
    [
        ("visitor left", "visitor"),
        ("visitor: the request body ends 3 bytes early", "visitor"),
        ("bridge: the server has stopped", "bridge"),
        ("main: ended 5 bytes early", "backend"),
        ("handler: body ended 5 bytes early", "backend"),
    ],
)
def test_an_answer_that_was_cut_short_has_one_to_blame(aborted: str, by: str) -> None:
    assert Outcome("", 1, "", aborted=aborted).aborted_by == by
