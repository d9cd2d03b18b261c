"""One module and its unit tests, run once for each mutation.

Each run is a forked child of a process that has imported what is big: there the mutated code is
what the module's name stands for before any test is imported. Nothing in the work tree changes.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import hypothesis
import pytest

from tests.mutation.mutations import Mutation, mutations_of

__all__ = ["Outcome", "Subject", "TestsUnusable", "killed", "mutations", "seconds_of"]

SERVERS = {
    "logged_mariadb",
    "mariadb",
    "mongodb",
    "postgres",
    "rabbitmq",
    "redis_server",
}
"""Fixtures: a test that asks for one, through others too, is no unit test and is left out."""


EXAMPLES = 25
"""Of a property, where its test does not say how many; by itself it has four times as many."""


class TestsUnusable(Exception):
    """The tests of a module say nothing about mutations of it."""


@dataclass(frozen=True)
class Subject:
    """A module by its dotted name, and the files with its unit tests."""

    module: str
    tests: tuple[Path, ...]

    def owns(self, name: str) -> bool:
        """Whether the module of this name is imported anew for each mutation: what belongs to
        the package or to the tests."""
        top = name.partition(".")[0]
        mine = {"tests", "conftest", *(one.stem for one in self.tests)}
        return top in mine or top == self.module.partition(".")[0]


def mutations(subject: Subject) -> list[Mutation]:
    """All of a module, in the order of its lines."""
    path = _path(subject.module)
    return list(mutations_of(path.read_text(), str(path)))


def _path(module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise TestsUnusable(f"there is no module {module}: look at tests/mutation/table.py")
    return Path(spec.origin)


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation: whether a test failed or did not end, and after how long."""

    mutation: Mutation
    killed: bool
    seconds: float


def seconds_of(subject: Subject) -> float:
    """How long the tests take where nothing is changed. Raises TestsUnusable where they fail.

    What they import besides the package and themselves is imported here, too: the runs that
    follow have it already.
    """
    if not subject.tests:
        raise TestsUnusable(
            f"{subject.module} has no unit tests: name some in tests/mutation/table.py"
        )
    reader, writer = os.pipe()
    pid = _forked(subject, None, writer)
    os.close(writer)
    with open(reader) as names:
        imported = names.read().split()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != pytest.ExitCode.OK:
        files = " ".join(map(str, subject.tests))
        raise TestsUnusable(
            f"the unit tests of {subject.module} do not pass by themselves (exit code {code}): "
            f"run `python -m pytest {files}`"
        )
    for name in imported:
        if not subject.owns(name):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    began = time.monotonic()
    os.waitpid(_forked(subject, None), 0)
    return time.monotonic() - began


def killed(
    subject: Subject, chosen: Sequence[Mutation], jobs: int, limit: float
) -> Iterator[Outcome]:
    """What became of each, as they end.

    subject: the module and its tests, which pass where nothing is changed.
    chosen: the mutations to try.
    jobs: how many run at a time.
    limit: seconds after which tests do not end any more, which kills the mutation, too.
    """
    waiting, running = list(reversed(chosen)), dict[int, tuple[Mutation, float]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutation = waiting.pop()
                running[_forked(subject, mutation.code)] = mutation, time.monotonic()
            for pid, (mutation, began) in [*running.items()]:
                took = time.monotonic() - began
                code = _ended(pid)
                if code is None and took < limit:
                    continue
                if code is None:
                    _end(pid)
                del running[pid]
                yield Outcome(mutation, code != pytest.ExitCode.OK, took)
            time.sleep(0.005)
    finally:
        for pid in running:
            _end(pid)


def _forked(subject: Subject, code: CodeType | None, names: int | None = None) -> int:
    """The id of a child that runs the tests and says by its exit code what pytest said.

    subject: the module and its tests.
    code: what stands for the module, or None for itself.
    names: where the child writes the names of all modules that it has imported in the end.
    """
    finder = _Finder(subject.module, _path(subject.module), code) if code else None
    pid = os.fork()
    if pid:
        return pid
    result = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for one in range(3):
            os.dup2(nothing, one)
        for name in [*sys.modules]:
            if subject.owns(name):
                del sys.modules[name]
        if finder is not None:
            sys.meta_path.insert(0, finder)
        result = int(_tested(subject))
        if names is not None:
            with open(names, "w") as file:
                file.write("\n".join(sys.modules))
    finally:
        os._exit(result)


def _tested(subject: Subject) -> int:
    # The same examples each time, and a few of them: what notices only by chance says little. And
    # what fails need not be made smaller.
    hypothesis.settings.register_profile(
        "mutation",
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    words = ["-x", "-q", "--no-header", "--tb=no", "-pno:cacheprovider", "-pno:xdist"]
    words += ["-m", "not long and not slow and not programs and not acceptance"]
    words.append("--hypothesis-profile=mutation")
    words.append("-Wignore::pytest.PytestAssertRewriteWarning")  # plugins came before the fork
    return pytest.main([*words, *map(str, subject.tests)], plugins=[_UnitTests()])


class _UnitTests:
    """Leaves out the tests with servers; properties, which take the longest, come last."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [one for one in items if SERVERS.isdisjoint(_fixtures(one))]
        items.sort(key=lambda one: hypothesis.is_hypothesis_test(getattr(one, "obj", None)))


def _fixtures(item: pytest.Item) -> set[str]:
    """What a test asks for; a value that it is parametrized with may have the name of one."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return set(getattr(item, "fixturenames", ())) - set(parameters)


class _Finder(MetaPathFinder):
    """Finds the mutated module under the name of the real one."""

    def __init__(self, module: str, path: Path, code: CodeType) -> None:
        self._module, self._path, self._code = module, str(path), code

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        loader = _Loader(name, self._path)
        loader.code = self._code
        return importlib.util.spec_from_file_location(name, self._path, loader=loader)


class _Loader(SourceFileLoader):
    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


def _ended(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _end(pid: int) -> None:
    """End a child and what it started."""
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
