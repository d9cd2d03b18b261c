"""The programs that `bench.queue` runs, each in a process of its own, and how they start at once.

A program connects, says that it is ready, waits for the word, works, and hands back what it found.
Clocks are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection as Pipe
from typing import Any

from bench.queue_brokers import Contender
from bench.report import BenchmarkFailed

__all__ = [
    "Program",
    "consume",
    "publish",
    "publish_steadily",
    "receive_times",
    "running",
]

BOUND = 120.0
"""Seconds that a program may take for one step."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["bench.queue_brokers", "bench.queue_sql", "bench.queue_mongodb"])

Main = Callable[..., contextlib.AbstractContextManager[Callable[[], Any]]]
"""A program: opens what it needs, and gives what is to be done on the word."""


class Program:
    """One process that runs `main(*arguments)`."""

    def __init__(self, main: Main, *arguments: Any) -> None:
        self._what = main.__name__
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(target=_run, args=(main, arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until it is connected. Raises BenchmarkFailed."""
        self._get()

    def go(self) -> None:
        """Let it begin."""
        self._pipe.send(True)

    def result(self) -> Any:
        """What it found; waits for its end. Raises BenchmarkFailed."""
        return self._get()

    def end(self) -> None:
        """End it, if it has not ended."""
        self._pipe.close()
        if self._process.exitcode is None:
            self._process.join(1)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def _get(self) -> Any:
        try:
            if not self._pipe.poll(BOUND):
                raise BenchmarkFailed(f"{self._what} did nothing for {BOUND:g} s")
            ok, value = self._pipe.recv()
        except EOFError:
            raise BenchmarkFailed(f"{self._what} ended without a word") from None
        if not ok:
            raise BenchmarkFailed(f"{self._what}: {value}")
        return value


@contextlib.contextmanager
def running(*programs: Program) -> Iterator[Sequence[Program]]:
    """Wait until all are connected; end them at the end."""
    try:
        for program in programs:
            program.ready()
        yield programs
    finally:
        for program in programs:
            program.end()


def _run(main: Main, arguments: Sequence[Any], pipe: Pipe) -> None:
    try:
        with main(*arguments) as work:
            pipe.send((True, None))
            pipe.recv()
            found = work()
        pipe.send((True, found))
    except Exception as error:
        # Nobody listens any more where another program has failed already.
        with contextlib.suppress(OSError):
            pipe.send((False, f"{type(error).__name__}: {error}"))


@contextlib.contextmanager
def publish(contender: Contender, bodies: Sequence[str]) -> Iterator[Callable[[], Any]]:
    """Finds when it began and when the last message was on the queue, in ns."""
    with contender.publisher() as put:

        def work() -> tuple[int, int]:
            begin = time.monotonic_ns()
            put(bodies)
            return begin, time.monotonic_ns()

        yield work


@contextlib.contextmanager
def consume(contender: Contender, expected: int | None) -> Iterator[Callable[[], Any]]:
    """Receives `expected` messages, or, where others do too, until it finds nothing.

    Finds when it began and when the last one was acknowledged, in ns, and the bodies.
    """
    received: list[Any] = []
    with contender.consumer(received.append) as take:

        def work() -> tuple[int, int, list[Any]]:
            begin = end = time.monotonic_ns()
            while expected is None or len(received) < expected:
                if not take():
                    break
                end = time.monotonic_ns()
            return begin, end, received

        yield work


@contextlib.contextmanager
def publish_steadily(
    contender: Contender, bodies: Sequence[str], rate: float, jitter: float
) -> Iterator[Callable[[], Any]]:
    """Publishes one by one, `rate` in a second; jitter: how uneven, 0 to 1.

    Finds when each was begun, in ns; one that had to wait for those before it, when it was due.
    """
    with contender.publisher() as put:

        def work() -> list[int]:
            began = []
            due = time.monotonic() + 1 / rate
            for body in bodies:
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                    began.append(time.monotonic_ns())
                else:
                    began.append(int(due * 1e9))
                due += random.uniform(1 - jitter, 1 + jitter) / rate
                put([body])
            return began

        yield work


@contextlib.contextmanager
def receive_times(contender: Contender, expected: int) -> Iterator[Callable[[], Any]]:
    """Finds when each message came, in ns, and its body."""
    received: list[tuple[int, Any]] = []

    def receive(body: Any) -> None:
        received.append((time.monotonic_ns(), body))

    with contender.consumer(receive) as take:

        def work() -> list[tuple[int, Any]]:
            give_up = time.monotonic() + BOUND / 2
            while len(received) < expected and time.monotonic() < give_up:
                if not take() and contender.poll is not None:
                    time.sleep(contender.poll)
            return received

        yield work
