"""Changes one number in routes.yaml: one line, atomically, with who, when and why on record.

The number is replaced where it stands in the text, so comments and layout survive to the byte.
What `bridge check` would refuse is never written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bridge.errors import ConfigError, FlipRefused
from bridge.files import write_atomically
from bridge.proxy.models import parse_percent
from bridge.proxy.routes import Route, RouteTable, load, load_text
from bridge.yamlfile import YamlFile, did_you_mean

__all__ = ["Flip", "flip", "history_file", "read_history"]

_NUMBER = re.compile(r"""(['"]?)(\d{1,3}(?:\.\d{1,3})?\s*%)\1""")


@dataclass(frozen=True, slots=True)
class Flip:
    """One flip, as the history keeps it. `digest` names the table it made; `line` is the
    changed line, from 1; `changed` is False when the number already stood there."""

    at: str
    who: str
    name: str
    old: str
    new: str
    why: str
    line: int
    digest: str
    changed: bool = True


def history_file(routes: Path) -> Path:
    """Where the flips of this routes.yaml are kept: one JSON object a line."""
    return routes.with_name(f"{routes.stem}.history.jsonl")


def flip(routes: Path, name: str, share: str, *, who: str, why: str) -> Flip:
    """Set the share of the route or group `name` to `share` (`25%`).

    Raises FlipRefused when that is not possible, and ConfigError when the file as it stands, or
    as it would be, is broken; nothing is changed then.
    """
    try:
        share = f"{parse_percent(share) / 1000:g}%"
    except ValueError as error:
        raise FlipRefused(str(error)) from None
    if not why.strip():
        raise FlipRefused("say why, with --why TEXT: whoever undoes this flip wants to know")
    path = routes.resolve()  # a link stays a link
    with _locked(path):
        table = load(path)
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        place = _place(table, name)
        yaml = YamlFile.parse(text, str(routes))
        line, column = yaml.position(place)
        lines = text.splitlines(keepends=True)
        number = _NUMBER.match(lines[line - 1], column - 1)
        if number is None:
            raise FlipRefused(
                f"{routes}:{line}:{column}: the share is not written as a plain number here; "
                "write it as `python: 10%` on one line"
            )
        old = number[2]
        lines[line - 1] = (
            lines[line - 1][: number.start(2)] + share + lines[line - 1][number.end(2) :]
        )
        changed = "".join(lines)
        try:
            new_table = load_text(changed, path)
        except ConfigError as error:
            raise FlipRefused(f"the file would not load any more: {error}") from None
        others = {route.name: route.share for route in table.routes if name not in _names(route)}
        if any(route.share != others.get(route.name, route.share) for route in new_table.routes):
            raise FlipRefused(f"{routes}:{line}: changing this line would change other routes too")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        same = parse_percent(old) == parse_percent(share)
        done = Flip(now, who, name, old, share, why, line, new_table.digest, not same)
        if same:
            return done
        try:
            # Opened before the change, so that no flip happens that cannot be recorded.
            with open(history_file(path), "a", encoding="utf-8") as history:
                write_atomically(path, changed)
                history.write(json.dumps(asdict(done), ensure_ascii=False) + "\n")
        except OSError as error:
            raise FlipRefused(f"{error.filename or path}: {error.strerror}") from None
    return done


def _names(route: Route) -> tuple[str, str | None]:
    return route.name, route.spec.group


def _place(table: RouteTable, name: str) -> tuple[str | int, ...]:
    """Where the number of a group or of a route without a group stands."""
    if name in table.file.groups:
        return ("groups", name, "python")
    for index, route in enumerate(table.routes):
        if route.name == name:
            if route.app is None:
                raise FlipRefused(f"route `{name}` has no Python side; give it a handler first")
            if route.spec.group is not None:
                raise FlipRefused(
                    f"route `{name}` flips with its group; use `bridge flip {route.spec.group} …`"
                )
            return ("routes", index, "python")
    known = [*table.file.groups, *(route.name for route in table.routes)]
    hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
    raise FlipRefused(f"no route or group `{name}`; {hint}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One flip at a time, in all processes."""
    try:
        lock = open(path.with_name(f".{path.name}.lock"), "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise FlipRefused(f"cannot write beside {path}: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_history(routes: Path) -> list[Flip]:
    """Every flip so far, oldest first. Lines that cannot be read are passed over."""
    flips = []
    with contextlib.suppress(FileNotFoundError):
        for line in history_file(routes.resolve()).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                flips.append(Flip(**json.loads(line)))
    return flips
