"""What can go wrong with a server of the stack, in words that say what to do next."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BinaryMissing", "LoadFailed", "ServerFailed", "StackError", "TimedOut", "tail"]


LONGEST_LINE = 500
"""Characters of a log line that a message shows: mongod writes whole configurations in one."""


class StackError(RuntimeError):
    """Base of the errors of this package."""


class BinaryMissing(StackError):
    """The program of a server is not installed; `install` is the command that installs it."""

    def __init__(self, program: str, install: str) -> None:
        self.program, self.install = program, install
        super().__init__(f"{program} is not installed. To install it: {install}")


class ServerFailed(StackError):
    """A server ended or did not become ready; the message ends with the tail of its log."""


class TimedOut(StackError):
    """A condition did not come true within its bound."""


class LoadFailed(StackError):
    """Under load an answer was wrong or missing, or something that had to be on was off."""


def tail(log: Path, lines: int = 30) -> str:
    """The last `lines` lines of a log file, indented, long ones cut; "" without such a file."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(f"    {line[:LONGEST_LINE]}" for line in text.splitlines()[-lines:])
