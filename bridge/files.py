"""Small files that several processes share."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bridge.errors import StateUnreadable

__all__ = [
    "LOOP_TOKEN",
    "ProcessFiles",
    "is_alive",
    "is_stopped",
    "shared_token",
    "started_at",
    "take_over",
    "write_atomically",
]

T = TypeVar("T")

LOOP_TOKEN = "loops.token"  # noqa: S105 - it is the name of a file
"""Name of the file in the state directory with which its processes sign visitors' trails."""


def write_atomically(
    path: Path,
    text: str,
    mode: int | None = None,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Replace `path` by `text` so that a reader, or a crash, sees the old or the new file. Mode,
    group and, for root, owner are taken over from the old one.

    mode: of a new file; None: as the umask has it.
    before: called when only the change of names is left; what it raises prevents that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            try:
                take_over(file.fileno(), old := os.stat(path), old.st_mode & 0o7777)
            except FileNotFoundError:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        before()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class ProcessFiles:
    """One JSON object for each process of a kind, in `folder` of the state directory. A file has
    the name of its process, so that no other writes or removes it; `pid` is among its fields."""

    def __init__(self, state_dir: Path, folder: str) -> None:
        self._state_dir, self._folder = state_dir, state_dir / folder

    def path(self, name: object) -> Path:
        """The file of the process of this name."""
        return self._folder / f"{name}.json"

    def write(self, name: object, fields: Mapping[str, object]) -> None:
        """Say what this process is. Raises OSError."""
        write_atomically(self.path(name), json.dumps(fields))

    def remove(self, name: object) -> None:
        """The process of this name is gone. Raises OSError."""
        self.path(name).unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """All of them, by name. Raises StateUnreadable."""
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(".json"))
        except PermissionError:
            raise StateUnreadable(self._state_dir) from None
        except OSError:
            return []  # nobody has worked here
        return [self._folder / name for name in names]

    def read(self, make: Callable[[dict[str, Any]], T], *, tidy: bool = False) -> list[T]:
        """What those that are alive say, by name.

        make: is given the fields of one; what it cannot use (TypeError, ValueError, KeyError) is
            left out.
        tidy: whether files of dead ones are removed, and one that this user may not read is
            another user's, and left out.

        Raises StateUnreadable when this user may not look.
        """
        found = []
        for path in self.paths():
            try:
                fields = json.loads(path.read_text(encoding="utf-8"))
                one, alive = make(fields), is_alive(fields["pid"])
            except PermissionError:
                if tidy:
                    continue
                raise StateUnreadable(self._state_dir) from None
            except (OSError, ValueError, TypeError, KeyError):
                continue  # gone by now, or from another version
            if alive:
                found.append(one)
            elif tidy:
                with contextlib.suppress(OSError):  # whoever only looks may not tidy up
                    path.unlink()
        return found


def take_over(file: int, old: os.stat_result, mode: int) -> None:
    """Give an open file of this user's the group and, for root, the owner that `old` has, where
    this user may; and `mode`, whatever the umask."""
    own = os.fstat(file)
    owner = old.st_uid if os.geteuid() == 0 else own.st_uid
    if (own.st_uid, own.st_gid) != (owner, old.st_gid):  # a service is not even allowed to ask
        with contextlib.suppress(PermissionError):
            os.fchown(file, owner, old.st_gid)
    os.fchmod(file, mode)


def shared_token(path: Path) -> str:
    """A random text that all who ask for `path` get, for as long as the file is there; empty
    where it can be neither read nor made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with open(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as file:
                file.write(secrets.token_hex())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)  # whoever is first; nobody sees half of it
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this id, and has not ended (a zombie has)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    return _state_of(pid) not in ("Z", "X")


def is_stopped(pid: int) -> bool:
    """Whether this process of this machine was stopped (SIGSTOP, a debugger), and so does nothing
    although it is alive. False where that cannot be known."""
    return _state_of(pid) in ("T", "t")


def started_at(pid: int) -> float | None:
    """When this process of this machine was started, in Unix seconds; None where nobody says."""
    try:
        ticks = int(_stat_of(pid)[19])
        lines = Path("/proc/stat").read_text(encoding="utf-8", errors="replace").splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def _state_of(pid: int) -> str:
    """The letter that Linux has for what the process does, empty where nobody says."""
    return (_stat_of(pid) or [""])[0]


def _stat_of(pid: int) -> list[str]:
    """What /proc/PID/stat has from its third field on (proc(5)); nothing where nobody says."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
