"""The files that come with the package and are no Python of it: the PHP producer with its SQL,
deployment files, and a small site to begin with.

A wheel has them in `bridge/share`; a checkout has them where people look for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.errors import BridgeError, ExampleExists

__all__ = ["TREES", "chosen", "files", "write"]

_PACKAGE = Path(__file__).resolve().parent
TREES = {"deploy": "deploy", "php": "php", "site": "examples/site"}
"""First folder of a name: where a checkout has it."""


def files() -> dict[str, Path]:
    """Every file by its name, such as `deploy/nginx/site.conf`, in order. Raises BridgeError when
    they are not there, as in a copy of the package's folder alone."""
    installed = _PACKAGE / "share"
    found: dict[str, Path] = {}
    for tree, place in TREES.items():
        root = installed / tree if installed.is_dir() else _PACKAGE.parent / place
        found |= {
            f"{tree}/{path.relative_to(root).as_posix()}": path
            for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    if not found:
        raise BridgeError(f"no examples in {installed}; install the package again with pip")
    return dict(sorted(found.items()))


def chosen(words: Sequence[str], among: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The files that `words` name, and the words that name none.

    A word is a file's name, its end from a slash on (`routes.yaml`), or a folder in it (`php`,
    `nginx`, `deploy/systemd`); `all` is all of them.
    """
    found: dict[str, Path] = {}
    unknown: list[str] = []
    for word in words:
        wanted = f"/{word.strip('/')}"
        those = {
            name: path
            for name, path in among.items()
            if word == "all" or f"/{name}".endswith(wanted) or f"{wanted}/" in f"/{name}"
        }
        found |= those
        if not those:
            unknown.append(word)
    return dict(sorted(found.items())), unknown


def write(examples: Mapping[str, Path], folder: Path, *, force: bool = False) -> list[Path]:
    """Write each file below `folder` under its name; returns where they are. Raises ExampleExists,
    before anything is written, when one is there and not `force`; BridgeError when a file cannot be
    written."""
    places = {folder / name: path for name, path in examples.items()}
    there = [str(place) for place in places if place.exists() or place.is_symlink()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ExampleExists(
            f"{there[0]}{more} would be overwritten; give --force, or another folder with --to"
        )
    for place, path in places.items():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            # `x`: what came between the look and now is not overwritten either.
            with place.open("wb" if force else "xb") as file:
                file.write(path.read_bytes())
        except OSError as error:
            raise BridgeError(f"cannot write {place}: {error.strerror}") from None
    return list(places)
