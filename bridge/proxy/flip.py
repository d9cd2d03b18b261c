"""Changes one number in routes.yaml: one line, atomically, with who, when and why on record.

The number is replaced where it stands in the text, so comments and layout survive to the byte.
What would not load is never written. Only who raises a share needs its handler: it can be lowered
also where that cannot be imported, or not from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bridge.errors import ConfigError, FlipRefused
from bridge.files import write_atomically
from bridge.proxy.models import parse_percent
from bridge.proxy.routes import Handlers, Route, RouteTable, load, load_text
from bridge.yamlfile import YamlFile, did_you_mean

__all__ = ["Flip", "flip", "flip_all", "history_file", "read_history"]

Place = tuple[str, str | int, str]
"""Where in the file a share stands."""

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
    as it would be, is broken, or the handler of a raised share cannot be imported; nothing is
    changed then.
    """
    with _changing(routes, share, who, why) as change:
        return change.to([_place(change.table, name)])[0]


def flip_all(routes: Path, share: str, *, who: str, why: str) -> list[Flip]:
    """Set every share that is another to `share`, with one change of the file. Raises as `flip`."""
    with _changing(routes, share, who, why) as change:
        return [one for one in change.to(_all_places(change.table)) if one.changed]


@contextlib.contextmanager
def _changing(routes: Path, share: str, who: str, why: str) -> Iterator[_Change]:
    try:
        share = f"{parse_percent(share) / 1000:g}%"
    except ValueError as error:
        raise FlipRefused(str(error)) from None
    if not why.strip():
        raise FlipRefused("say why, with --why TEXT: whoever undoes this flip wants to know")
    path = routes.resolve()  # a link stays a link
    with _locked(path):
        yield _Change(routes, path, share, who, why)


class _Change:
    """One change of the file, while nobody else makes one."""

    def __init__(self, routes: Path, path: Path, share: str, who: str, why: str) -> None:
        self._routes, self._path = routes, path
        self._share, self._who, self._why = share, who, why
        self.table = load(path, handlers=Handlers.NAMED)
        with open(path, encoding="utf-8", newline="") as file:
            self._text = file.read()

    def to(self, places: Sequence[Place]) -> list[Flip]:
        """Write the share at these places."""
        yaml = YamlFile.parse(self._text, str(self._routes))
        lines = self._text.splitlines(keepends=True)
        found = []
        # From the right to the left: what is changed moves nothing that comes later.
        for place in sorted(places, key=yaml.position, reverse=True):
            line, column = yaml.position(place)
            number = _NUMBER.match(lines[line - 1], column - 1)
            if number is None:
                raise FlipRefused(
                    f"{self._routes}:{line}:{column}: the share is not written as a plain number "
                    "here; write it as `python: 10%` on one line"
                )
            text = lines[line - 1]
            lines[line - 1] = text[: number.start(2)] + self._share + text[number.end(2) :]
            found.append((place, line, number[2]))
        changed = "".join(lines)
        names = {_name(self.table, place) for place in places}
        digest = self._check(changed, names)
        if any(parse_percent(old) < parse_percent(self._share) for _, _, old in found):
            self._check_handlers(names)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        flips = [
            Flip(
                at=now,
                who=self._who,
                name=_name(self.table, place),
                old=old,
                new=self._share,
                why=self._why,
                line=line,
                digest=digest,
                changed=parse_percent(old) != parse_percent(self._share),
            )
            for place, line, old in reversed(found)
        ]
        self._write(changed, [flip for flip in flips if flip.changed])
        return flips

    def _check_handlers(self, names: Set[str]) -> None:
        table = load(self._path, handlers=Handlers.WANTED)
        if any(
            route.handler and not route.app and names & set(_names(route)) for route in table.routes
        ):
            raise ConfigError(list(table.problems))

    def _check(self, text: str, names: Set[str]) -> str:
        """The digest of the table that `text` makes. Raises FlipRefused where it makes none, or
        one in which other shares change than those of `names`."""
        try:
            table = load_text(text, self._path, handlers=Handlers.NAMED)
        except ConfigError as error:
            raise FlipRefused(f"the file would not load any more: {error}") from None
        others = {
            route.name: route.share for route in self.table.routes if not names & set(_names(route))
        }
        if any(route.share != others.get(route.name, route.share) for route in table.routes):
            raise FlipRefused(f"{self._routes}: this change would change other routes too")
        return table.digest

    def _write(self, text: str, flips: Sequence[Flip]) -> None:
        if not flips:
            return
        lines = [json.dumps(asdict(flip), ensure_ascii=False) + "\n" for flip in flips]
        try:
            # Opened before the change, so that no flip happens that cannot be recorded.
            with open(history_file(self._path), "a", encoding="utf-8") as history:
                write_atomically(self._path, text)
                history.write("".join(lines))
        except OSError as error:
            raise FlipRefused(f"{error.filename or self._path}: {error.strerror}") from None


def _names(route: Route) -> tuple[str, str | None]:
    return route.name, route.spec.group


def _name(table: RouteTable, place: Place) -> str:
    """Whose share stands there."""
    kind, which, _ = place
    return str(which) if kind == "groups" else table.routes[int(which)].name


def _all_places(table: RouteTable) -> list[Place]:
    """Where the shares of all groups stand, and of all routes without one."""
    places: list[Place] = [("groups", name, "python") for name in table.file.groups]
    places += [
        ("routes", index, "python")
        for index, route in enumerate(table.routes)
        if route.handler and route.spec.group is None and route.spec.python is not None
    ]
    return places


def _place(table: RouteTable, name: str) -> Place:
    """Where the number of a group or of a route without a group stands."""
    if name in table.file.groups:
        return ("groups", name, "python")
    for index, route in enumerate(table.routes):
        if route.name == name:
            if not route.handler:
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
