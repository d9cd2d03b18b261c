"""Changes one number in routes.yaml: one line, atomically, with who, when and why on record.

The number is replaced where it stands in the text, so comments and layout survive to the byte.
What would not load is never written, and what somebody else saved meanwhile is never overwritten:
then the change begins anew with their file. Only who raises a share needs its handler, and room in
the history: it can be lowered also where that cannot be imported, or not from here, and also on a
full disk.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bridge.errors import ConfigError, FlipRefused, WrongUsage
from bridge.files import write_atomically
from bridge.proxy.routing import models
from bridge.proxy.routing.load import Handlers, load, load_text
from bridge.proxy.routing.models import parse_percent
from bridge.proxy.routing.table import Route, RouteTable
from bridge.proxy.tools import views
from bridge.proxy.tools.flock import locked
from bridge.proxy.tools.history import Flip, History, history_file, read_history
from bridge.yamlfile import YamlFile, did_you_mean

__all__ = ["Allow", "Done", "Flip", "Left", "flip", "flip_all", "history_file", "read_history"]

Allow = Callable[[RouteTable, Sequence[str]], str]
"""Is asked before shares are raised, with the table as it would be and the routes whose shares they
are. Returns what the history notes of it; raises FlipRefused."""

Place = tuple[str, str | int, str]
"""Where in the file a share stands."""

_NUMBER = re.compile(r"""(?:&\S+[ \t]+)?(['"]?)(\d{1,3}(?:\.\d{1,3})?\s*%)\1""")
"""A share, with the anchor before it."""
_PLAIN = "the share is not written as a plain number here; write it as `python: 10%` on one line"
_LINE = re.compile(r"[^\n\r]*(?:\r\n|[\n\r]|$)")
"""A line as YAML 1.2 counts them."""
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Left:
    """A share that could not be changed: whose, what it is, its line (0: not known), and why."""

    name: str
    share: str
    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """What one command did. `unrecorded` says why it is not in the history, or is empty."""

    flips: tuple[Flip, ...]
    left: tuple[Left, ...] = ()
    unrecorded: str = ""

    @property
    def changed(self) -> bool:
        """Whether the file is another now."""
        return any(one.changed for one in self.flips)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number in the text: those whose share it is, its line from 1, and its ends therein."""

    names: tuple[str, ...]
    line: int
    start: int
    end: int
    old: str


class _SavedMeanwhile(Exception):
    """Somebody else has saved the file since it was read."""


def _freely(table: RouteTable, routes: Sequence[str]) -> str:
    return ""


def flip(
    routes: Path, name: str, share: str, *, who: str, why: str, allow: Allow = _freely
) -> Done:
    """Set the share of the route or group `name`.

    share: as in the file `routes`, for example `25%`.
    who, why: for the history.
    allow: what else a raised share needs; it is not asked when one is lowered.

    Raises WrongUsage for what is no share and for no reason, FlipRefused when it is not possible,
    and ConfigError when the file as it stands, or as it would be, is broken, or the handler of a
    raised share cannot be imported; nothing is changed then.
    """

    def one(change: _Change) -> Done:
        done = change.to([_place(change.table, name)])
        for left in done.left:
            raise FlipRefused(f"{routes}:{left.line}: {left.why}")
        return done

    return _changed(routes, share, who, why, one, allow)


def flip_all(routes: Path, share: str, *, who: str, why: str, allow: Allow = _freely) -> Done:
    """Set every share that is another, with one change of the file. What cannot be changed is
    `left`, and the rest is changed all the same.

    routes, share, who, why, allow: as for `flip`, and so is what it raises.
    """

    def every(change: _Change) -> Done:
        done = change.to(_all_places(change.table))
        return Done(tuple(one for one in done.flips if one.changed), done.left, done.unrecorded)

    return _changed(routes, share, who, why, every, allow)


def _changed(
    routes: Path,
    share: str,
    who: str,
    why: str,
    make: Callable[[_Change], Done],
    allow: Allow = _freely,
) -> Done:
    """What `make` does, with the file that is there when it is written."""
    try:
        share = f"{parse_percent(share) / 1000:g}%"
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if not why.strip():
        raise WrongUsage("say why, with --why TEXT: whoever undoes this flip wants to know")
    path = routes.resolve()  # a link stays a link
    with locked(path):
        for _ in range(_TRIES):
            before = _content(path)
            try:
                return make(_Change(routes, path, share, _text(who), _text(why), allow))
            except _SavedMeanwhile:
                continue
            except (ConfigError, FlipRefused):
                # An editor may have been writing: then it was half of a file that was read.
                if _content(path) == before:
                    raise
    raise FlipRefused(f"{routes} was saved by somebody else several times meanwhile; try again")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _text(words: str) -> str:
    """What was typed, without bytes that are no text: a file of text can have it."""
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _Change:
    """One change of the file, while no other flip makes one."""

    def __init__(
        self, routes: Path, path: Path, share: str, who: str, why: str, allow: Allow
    ) -> None:
        self._routes, self._path, self._allow = routes, path, allow
        self._share, self._who, self._why = share, who, why
        self._bytes = _content(path)
        try:
            self._text = (self._bytes or b"").decode()
        except UnicodeDecodeError:
            self._text = ""
        if not self._text:
            load(path, handlers=Handlers.NAMED)  # which says what is wrong
        self.table = self._load(self._text)

    def _load(self, text: str, handlers: Handlers = Handlers.NAMED) -> RouteTable:
        """The table of `text`, read as `load` reads a file: with any line ends."""
        return load_text(io.StringIO(text, newline=None).getvalue(), self._path, handlers=handlers)

    def to(self, places: Sequence[Place]) -> Done:
        """Write the share at these places, or at those of them where it can be written."""
        numbers, left = self._numbers(places)
        good = self._writable(numbers, [])
        for one in numbers:
            if one not in good:
                why = f"to change the number of {_both(one.names)} here would change something "
                why += "else too; write the number itself in place of each alias"
                left += [Left(name, one.old, one.line, why) for name in one.names]
        if not good:
            return Done((), tuple(left))
        text = self._with(good)
        table = self._load(text)
        raised = [one for one in good if parse_percent(one.old) < parse_percent(self._share)]
        evidence = ""
        if raised:
            self._check_handlers(text, {name for one in good for name in one.names})
            whose = {name for one in raised for name in one.names}
            evidence = self._allow(
                table, [route.name for route in table.routes if whose & set(_names(route))]
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        flips = [
            Flip(
                at=now,
                who=self._who,
                name=name,
                old=one.old,
                new=self._share,
                why=self._why,
                line=one.line,
                digest=table.digest,
                changed=parse_percent(one.old) != parse_percent(self._share),
                evidence=evidence if one in raised else "",
            )
            for one in good
            for name in one.names
        ]
        recorded = self._write(text, [flip for flip in flips if flip.changed], must=bool(raised))
        return Done(tuple(flips), tuple(left), recorded)

    def _numbers(self, places: Sequence[Place]) -> tuple[list[_Number], list[Left]]:
        """The numbers at these places, each once, in the order of the file; and where none is."""
        yaml = YamlFile.parse(self._text, str(self._routes))
        lines = _LINE.findall(self._text)
        names: dict[tuple[int, int], list[str]] = {}
        left = []
        for place in places:
            try:
                names.setdefault(yaml.position(place), []).append(_name(self.table, place))
            except (LookupError, TypeError):  # it comes from elsewhere, by a merge key
                left.append(self._left(place, 0))
        found = []
        for (line, column), whose in sorted(names.items()):
            number = _NUMBER.match(lines[line - 1], column - 1) if line <= len(lines) else None
            if number is None:
                left += [self._left(place, line) for place in places if self._is(place, whose)]
                continue
            found.append(_Number(tuple(whose), line, number.start(2), number.end(2), number[2]))
        return found, left

    def _is(self, place: Place, names: Sequence[str]) -> bool:
        return _name(self.table, place) in names

    def _left(self, place: Place, line: int) -> Left:
        return Left(_name(self.table, place), _share(self.table, place), line, _PLAIN)

    def _with(self, numbers: Sequence[_Number]) -> str:
        """The text with the share in place of these numbers."""
        lines = _LINE.findall(self._text)
        # From the right to the left: what is changed moves nothing that comes later.
        for one in sorted(numbers, key=lambda one: (one.line, one.start), reverse=True):
            text = lines[one.line - 1]
            lines[one.line - 1] = text[: one.start] + self._share + text[one.end :]
        return "".join(lines)

    def _writable(self, numbers: list[_Number], with_: list[_Number]) -> list[_Number]:
        """Those of `numbers` that can be changed together with those of `with_`, and `with_`."""
        if self._is_meant([*with_, *numbers]):
            return [*with_, *numbers]
        if len(numbers) < 2:
            return with_
        middle = len(numbers) // 2
        return self._writable(numbers[middle:], self._writable(numbers[:middle], with_))

    def _is_meant(self, numbers: Sequence[_Number]) -> bool:
        """Whether to change these numbers changes the shares that they are of, and nothing else."""
        try:
            table = self._load(self._with(numbers))
        except ConfigError:
            return False
        names = {name for one in numbers for name in one.names}
        new = parse_percent(self._share)
        return _but_for_shares(table) == _but_for_shares(self.table) and all(
            route.share == (new if names & set(_names(route)) else old.share)
            for route, old in zip(table.routes, self.table.routes, strict=True)
        )

    def _check_handlers(self, text: str, names: set[str]) -> None:
        table = self._load(text, Handlers.WANTED)
        if any(
            route.handler and not route.app and names & set(_names(route)) for route in table.routes
        ):
            raise ConfigError(list(table.problems))
        routes = [route.name for route in table.routes if names & set(_names(route))]
        if misfits := views.misfits(table, str(self._routes), routes):
            raise ConfigError(misfits)

    def _write(self, text: str, flips: Sequence[Flip], *, must: bool) -> str:
        """Write the file and its history. Returns why it could not be recorded, which only who
        raises a share `must`: on a full disk, too, what is wrong can be taken back."""
        if not flips:
            return ""
        history = History(self._path)
        lines = [json.dumps(asdict(flip), ensure_ascii=False) + "\n" for flip in flips]
        unrecorded = ""

        def before() -> None:
            nonlocal unrecorded
            # Before the change, so that none happens that is not on record.
            try:
                history.add("".join(lines))
            except OSError as error:
                if must:
                    raise
                unrecorded = f"{history.path}: {error.strerror}"
            if _content(self._path) != self._bytes:
                raise _SavedMeanwhile

        try:
            write_atomically(self._path, text, before=before)
        except _SavedMeanwhile:
            history.take_back()
            raise
        except OSError as error:
            if _content(self._path) == text.encode():
                return unrecorded  # it happened, and only the disk's word for it is missing
            history.take_back()
            raise FlipRefused(
                f"{error.filename or history.path}: {error.strerror}; nothing was changed: mend "
                f"that, or change {self._routes} by hand"
            ) from None
        return unrecorded


def _but_for_shares(table: RouteTable) -> models.File:
    """What the file says besides shares."""
    groups = dict.fromkeys(table.file.groups)
    routes = [spec.model_copy(update={"python": None}) for spec in table.file.routes]
    return table.file.model_copy(update={"groups": groups, "routes": routes})


def _both(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _names(route: Route) -> tuple[str, str | None]:
    return route.name, route.spec.group


def _name(table: RouteTable, place: Place) -> str:
    """Whose share stands there."""
    kind, which, _ = place
    return str(which) if kind == "groups" else table.routes[int(which)].name


def _share(table: RouteTable, place: Place) -> str:
    """The share that stands there (`25%`)."""
    kind, which, _ = place
    share = (
        table.file.groups[str(which)].python if kind == "groups" else table.routes[int(which)].share
    )
    return f"{share / 1000:g}%"


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
                    f"route `{name}` flips with its group; "
                    f"use `bridgectl flip {route.spec.group} …`"
                )
            return ("routes", index, "python")
    known = [*table.file.groups, *(route.name for route in table.routes)]
    hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
    raise FlipRefused(f"no route or group `{name}`; {hint}")
