"""What a worker runs with: its settings and its code, said so that a shell can compare.

`bridgectl serve` has the environment of whoever started it, and the modules as they were then. A
flip from a shell that has another environment, or newer files, is live and yet not what was
meant. Nothing here shows a secret: of each there are four digits of a digest, which tell it from
another one and are no help to guess it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge.proxy.routing.table import RouteTable
from bridge.settings import Settings, redact_url

__all__ = [
    "RESTART",
    "Compared",
    "changed_code",
    "code_of",
    "compare",
    "differences",
    "settings_of",
]

_LARGE = 1 << 20  # bytes; of larger files the size and the time are compared
_MOST_FILES = 2000

_first_seen: dict[str, str] = {}
"""What each file of code was when this process was first asked for it."""


class Surrounded(Protocol):
    """What says what it runs with: `bridge.proxy.telemetry.workers.WorkerStatus`."""

    @property
    def settings(self) -> Mapping[str, str]: ...
    @property
    def code(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Compared:
    """How what workers run with differs from here: `settings` that this shell sets otherwise, by
    variable and in words, and the files of `code` that are newer than what they have imported."""

    settings: Mapping[str, str]
    code: Sequence[str]

    @property
    def says(self) -> list[str]:
        """In sentences, with what to do."""
        found = []
        if self.code:
            more = f" and {len(self.code) - 1} more" if len(self.code) > 1 else ""
            found.append(f"workers run older code than {self.code[0]}{more}: {RESTART}")
        return found + [f"{name} differs: {how}" for name, how in self.settings.items()]


RESTART = "`systemctl restart bridge@NAME`; without systemd see docs/deploy.md, Upgrade"
"""What gives workers new code. Not SIGUSR2, which systemd takes for the end of the service."""


def compare(workers: Iterable[Surrounded], settings: Settings) -> Compared:
    """Compare workers with what a process started from here would run with."""
    workers = list(workers)
    ours = settings_of(settings)
    others: dict[str, str] = {}
    for worker in workers:
        others |= differences(worker.settings, ours, os.environ)
    return Compared(others, changed_code(worker.code for worker in workers))


def settings_of(settings: Settings) -> dict[str, str]:
    """What this process has for each variable, fit for a terminal; empty where it has none."""
    keys = " ".join(map(":".join, settings.freshness_keys))
    return {
        "BRIDGE_ROUTES": str(settings.routes.resolve()),
        "BRIDGE_STATE_DIR": str(settings.state_dir.resolve()),
        "BRIDGE_SYNC": str(settings.sync.resolve()),
        "BRIDGE_BROKER_URL": _url(settings.broker_url),
        "BRIDGE_MONGODB_URL": _url(settings.mongodb_url),
        "BRIDGE_SQL_URL": _url(settings.sql_url),
        "BRIDGE_SECRET": _secret(settings.secret),
        "BRIDGE_FRESHNESS_KEYS": _secret(keys),
        "BRIDGE_RELEASE": settings.release,
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "VIRTUAL_ENV": sys.prefix,
    }


def _url(url: str) -> str:
    shown = redact_url(url) if url else ""
    return shown if shown == url else f"{shown} ({_digits(url)})"


def _secret(value: str) -> str:
    return f"a value ({_digits(value)})" if value else ""


def _digits(value: str) -> str:
    data = f"bridge:{value}".encode(errors="surrogateescape")
    return hashlib.sha256(data).hexdigest()[:4]


def differences(
    theirs: Mapping[str, str], ours: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """By variable that `environ`, which is of this shell, sets: how a worker's value differs from
    ours. A variable that is not set here is nobody's wish. `theirs` may be of an older version."""
    return {
        name: f"bridgectl serve has {theirs[name] or 'none'}, this shell has {value or 'none'}"
        for name, value in ours.items()
        if name in theirs
        and theirs[name] != value
        and (environ.get(name) or environ.get(f"{name}_FILE"))
    }


def code_of(table: RouteTable) -> dict[str, str]:
    """The files of the packages that the table's handlers are in, as this process has imported
    them: a short digest each."""
    tops = {route.handler.partition(":")[0].partition(".")[0] for route in table.routes} - {""}
    modules = [
        module for name, module in list(sys.modules.items()) if name.partition(".")[0] in tops
    ]
    files = sorted({file for module in modules if (file := getattr(module, "__file__", None))})
    for file in files[:_MOST_FILES]:
        if file not in _first_seen:
            _first_seen[file] = _state(file)
    return {file: _first_seen[file] for file in files[:_MOST_FILES]}


def changed_code(codes: Iterable[Mapping[str, str]]) -> list[str]:
    """The files that are now others than a worker has imported, or are gone."""
    seen = {(file, state) for code in codes for file, state in code.items()}
    now = {file: _state(file) for file in {file for file, _ in seen}}
    return sorted({file for file, state in seen if now[file] not in (state, _UNREADABLE)})


_UNREADABLE = "?"


def _state(file: str) -> str:
    try:
        found = os.stat(file)
        if found.st_size > _LARGE:
            return f"{found.st_size}:{found.st_mtime_ns}"
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
    except FileNotFoundError:
        return "gone"
    except OSError:
        return _UNREADABLE
