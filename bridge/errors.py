"""Every exception that the package raises on purpose.

A message says what is wrong and what to do next, in words an operator can act on. Nothing
here knows how an error is shown; `bridge.cli.output` and `bridge.proxy.http.pages` do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.reasons import Reason, Stage

__all__ = [
    "BridgeError",
    "ConfigError",
    "ExampleExists",
    "FlipRefused",
    "IngestRefused",
    "LegacyError",
    "NotOffered",
    "PreviewUnavailable",
    "Problem",
    "ServerAway",
    "ServerMissing",
    "StateUnreadable",
    "Stopped",
    "UndecodableMessage",
    "UnusableEvent",
    "UseLegacy",
    "VisitorError",
    "WrongUsage",
]


class BridgeError(Exception):
    """Base of every error that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one file.

    `line` and `column` count from 1; 0 means the whole file. `hint` says what to write instead.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __post_init__(self) -> None:
        # They repeat what stands in the file, and go to terminals and logs.
        for name in ("message", "hint"):
            object.__setattr__(self, name, _printable(getattr(self, name)))

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}" + (f" – {self.hint}" if self.hint else "")


def _printable(text: str) -> str:
    """`text` with what a terminal would obey, and what UTF-8 cannot say, written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text
    )


class WrongUsage(BridgeError):
    """What was written on the command line can mean nothing; whatever the machine is like."""


class ConfigError(BridgeError):
    """A configuration file is wrong; `problems` holds every error of it, in file order. `remedy`:
    what else may be done about all of them, where somebody knows that."""

    remedy = ""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ServerMissing(BridgeError):
    """A server that is needed does not answer.

    url: already without its password (`bridge.settings.redact_url`).
    start, cause: how it is started, and what the attempt raised.
    text: the whole message, where starting it is not what to do.
    """

    def __init__(
        self, name: str, url: str, start: str, cause: object = "", *, text: str = ""
    ) -> None:
        self.name, self.url, self.start = name, url, start
        detail = f" ({cause})" if cause else ""
        super().__init__(text or f"{name} does not answer at {url}{detail}. To start it: {start}")


class StateUnreadable(BridgeError):
    """This user may not read the state directory, so what runs is not known."""

    def __init__(self, folder: object) -> None:
        self.folder = folder
        super().__init__(
            f"the state directory {folder} cannot be read as this user; run this as the user of "
            "`bridgectl serve`, or as one of its group"
        )


class UseLegacy(BridgeError):
    """Raised by a handler that declines a request: the legacy side answers it.

    `reason` is logged as the detail of a fallback that counts as `declined`, or as `freshness`
    where it says that; the visitor never sees it. Raise it before writing anything, and before
    the first byte of the response.
    """

    def __init__(self, reason: str = Reason.DECLINED) -> None:
        self.reason = reason
        super().__init__(reason)


class VisitorError(BridgeError):
    """What a visitor sent cannot be answered; `status` is the HTTP status that says so."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(f"{status}: {reason}")


class LegacyError(BridgeError):
    """The legacy backend failed.

    `stage` is the one in which it did; `status` is the HTTP status for the visitor (502, 503 or
    504) where no byte of an answer was sent yet.
    """

    def __init__(self, stage: Stage, status: int, message: str) -> None:
        self.stage, self.status = stage, status
        super().__init__(message)


class ExampleExists(BridgeError):
    """`bridgectl example` would overwrite a file; nothing was written."""


class FlipRefused(BridgeError):
    """`bridgectl flip` was asked for something that `bridgectl check` would refuse."""


class PreviewUnavailable(BridgeError):
    """A preview cookie was asked for and no secret is set to sign it with."""


class NotOffered(BridgeError, NotImplementedError):
    """The broker was asked for something that its transport does not have.

    `what` names it; nothing was sent.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"Redis Streams do not offer {what}")


class IngestRefused(BridgeError):
    """The listener refused events; sending the same again would be refused again.

    status: HTTP status of the answer, 0 when there was none.
    errors: index of the event among those given, or None for all of them, and what is wrong.
    accepted: how many events before them were accepted.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        errors: Sequence[tuple[int | None, str]] = (),
        accepted: int = 0,
    ) -> None:
        self.status, self.errors, self.accepted = status, tuple(errors), accepted
        lines = [error if index is None else f"event {index}: {error}" for index, error in errors]
        super().__init__("\n".join([message, *lines]))


class Stopped(BridgeError):
    """Somebody does not want it any more. What was done so far is complete in itself."""


class UndecodableMessage(BridgeError):
    """A message from the queue is not an event; it belongs to the dead letters."""


class UnusableEvent(BridgeError):
    """An event that the mirror can never hold: its entity is unknown, its data do not fit the
    schema, its document is too large. It belongs to the dead letters."""


class ServerAway(BridgeError):
    """A server does not answer now, or is in no state to work: wait and try again.

    Nothing was lost and nobody's message is to blame.
    """
