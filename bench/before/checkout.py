"""The two sides of a comparison: this checkout as it is, and another commit of its repository.

The other commit is checked out into a temporary directory and gone at the end, however that
comes. Both sides run with this Python and these packages. The environment has this checkout
installed, so a side first proves that the code that runs there is its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import BenchmarkFailed

__all__ = ["Tree", "checked_out", "resolve"]

BOUND = 120.0
"""Seconds that git may take for one step."""
_SHOWS = "import bridge; print(bridge.__file__)"


@dataclass(frozen=True)
class Tree:
    """A checkout that is measured. name: `before` or `now`."""

    name: str
    path: Path

    def environment(self) -> dict[str, str]:
        """This process's environment, with the modules of this checkout before all others, and
        without a site that happens to be configured in the caller's shell."""
        inherited = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
        places = [str(self.path), *filter(None, [inherited.get("PYTHONPATH")])]
        return {**inherited, "PYTHONPATH": os.pathsep.join(places)}

    def check(self) -> None:
        """Raises BenchmarkFailed unless it is this checkout's `bridge` that runs in it."""
        shown = subprocess.run(
            [sys.executable, "-c", _SHOWS],
            cwd=self.path,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        self.owns(shown.stdout.strip() or shown.stderr.strip()[-500:])

    def owns(self, file: str) -> None:
        """Raises BenchmarkFailed unless the module in this file belongs to this checkout."""
        if not Path(file).is_relative_to(self.path):
            raise BenchmarkFailed(
                f"{self.name}: the code that runs is not that of {self.path} but {file}; "
                "unset PYTHONPATH and PYTHONHOME, and try again"
            )


def resolve(repository: Path, commit: str, name: str) -> str:
    """The full hash of a commit that has the benchmark `name`. Raises BenchmarkFailed."""
    words = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"]
    found = _git(repository, words)
    if found.returncode:
        why = found.stderr.strip() or "git log shows those that there are"
        raise BenchmarkFailed(f"--against: {commit} is no commit of {repository}: {why}")
    full = found.stdout.strip()
    if _git(repository, ["cat-file", "-e", f"{full}:bench/{name}.py"]).returncode:
        raise BenchmarkFailed(
            f"--against: {commit} has no benchmark {name} (bench/{name}.py); take a later commit"
        )
    return full


@contextlib.contextmanager
def checked_out(repository: Path, commit: str, folder: Path) -> Iterator[Path]:
    """The commit in a worktree of its own at `folder`, removed at the end, also after an error.

    Raises BenchmarkFailed.
    """
    try:
        made = _git(repository, ["worktree", "add", "--quiet", "--detach", str(folder), commit])
        if made.returncode:
            raise BenchmarkFailed(f"{commit} cannot be checked out: {made.stderr.strip()}")
        yield folder.resolve()
    finally:
        # Servers that were killed may have left files of theirs there: --force.
        _git(repository, ["worktree", "remove", "--force", str(folder)])


def _git(repository: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(repository), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
        # Ctrl-C reaches us alone; half a worktree could not be removed.
        start_new_session=True,
    )
