"""Compares in child processes, since answers may be hostile: bounded time and memory.

A page can be made so that a parser takes hours or all memory, a rule of routes.yaml can hold a
regular expression that never ends, and no thread can be stopped. So a child with a limit on its
memory compares, and one that does not answer in time is killed and replaced. What comes back is
JSON: a child that a page has taken over can say nonsense, and run nothing here.

Run as a module, this is the child.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import bridge
from bridge.evidence.answers import Answer
from bridge.evidence.comparers.difference import Difference, Differences, NotComparable
from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.comparers.noise import Settled, Way, settle

__all__ = ["Judge"]

_SIZE = struct.Struct("!Q")
_START = 30.0  # seconds until a child has started, on a busy machine
_MOST_SAID = 8 * 2**20  # bytes of what a child may answer
_JOBS = 10_000  # then a child is replaced, for what a library may leak
_CHUNK = 2**18


class Judge:
    """Compares answers; for several threads.

    seconds: that one comparison may take.
    memory: bytes of address space that a child may have.
    children: how many compare at the same time. They start when they are needed.
    """

    def __init__(
        self, seconds: float = 10.0, memory: int = 1024 * 2**20, children: int = 1
    ) -> None:
        self.seconds, self.memory = seconds, memory
        self._places = threading.BoundedSemaphore(children)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        with self._lock:
            busy = len(self._all) - len(self._idle)
            return f"<Judge: {busy} busy, {len(self._idle)} idle>"

    def processes(self) -> list[int]:
        """The ids of its children."""
        with self._lock:
            return [child.pid for child in self._all]

    def find(self, legacy: Answer, python: Answer, rules: Rules) -> Differences:
        """As `bridge.evidence.comparers.finding.find`. Raises NotComparable."""
        if _alike(legacy, python):
            return Differences()
        said = self._ask(("find", (_lean(legacy), _lean(python), rules), {}))
        return _differences(said)

    def settle(
        self,
        legacy: Answer,
        python: Answer,
        legacy_again: Answer,
        python_again: Answer,
        rules: Rules,
        *,
        known: Collection[Way] = (),
        more: Sequence[Answer] = (),
    ) -> Settled:
        """What differs, what is noise, and what is gone.

        legacy, python: the first answers.
        legacy_again, python_again: the second ones.
        rules: what is not compared.
        known: what was learned from other requests of this route.
        more: further answers of legacy to the same request, where there are any.

        Raises NotComparable.
        """
        answers = [_lean(one) for one in (legacy, python, legacy_again, python_again)]
        further = {"known": frozenset(known), "more": [_lean(one) for one in more]}
        said = self._ask(("settle", (*answers, rules), further))
        return Settled(
            _differences(said["different"]),
            _differences(said["noise"]),
            _differences(said["gone"]),
            frozenset(Way(**way) for way in said["learned"]),
            frozenset(said["used"]),
        )

    def close(self) -> None:
        """End all children. Comparisons that are under way end as not comparable."""
        with self._lock:
            self._closed = True
            children = list(self._all)
            self._idle.clear()
        for child in children:
            self._end(child)

    def _ask(self, job: object) -> Any:
        sent = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
        with self._places:
            child = self._take()
            try:
                said = child.ask(sent, self.seconds)
            except BaseException:
                self._end(child)
                raise
            if said.get("last") or child.jobs >= _JOBS:
                self._end(child)
            else:
                self._give(child)
        if "why" in said:
            raise NotComparable(str(said["why"])[:500])
        return said["found"]

    def _take(self) -> _Child:
        with self._lock:
            if self._closed:
                raise NotComparable("the comparison is being ended")
            if self._idle:
                return self._idle.pop()
        child = _Child(self.seconds, self.memory)
        with self._lock:
            self._all.add(child)
            closed = self._closed
        if closed:
            self._end(child)
            raise NotComparable("the comparison is being ended")
        return child

    def _give(self, child: _Child) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(child)
                return
        self._end(child)

    def _end(self, child: _Child) -> None:
        with self._lock:
            self._all.discard(child)
        child.end()


class _Child:
    """One child process, and what is said to it and heard from it."""

    def __init__(self, seconds: float, memory: int) -> None:
        root = str(Path(bridge.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self.memory, self.jobs, self._started = memory, 0, False
        self._ending = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge.evidence.judge", repr(seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    def ask(self, sent: bytes, seconds: float) -> dict[str, Any]:
        """What it says to one job. Raises NotComparable when it is late or has ended."""
        try:
            if not self._started:
                self._read(1, time.monotonic() + _START)
                self._started = True
            until = time.monotonic() + seconds
            self._write(_SIZE.pack(len(sent)), until)
            self._write(sent, until)
            (size,) = _SIZE.unpack(self._read(_SIZE.size, until))
            if size > _MOST_SAID:
                raise NotComparable("the comparison found too much to tell")
            said = json.loads(self._read(size, until))
        except TimeoutError:
            raise NotComparable(f"the comparison took longer than {seconds:g} s") from None
        except (OSError, EOFError, ValueError):
            raise NotComparable(self._why_it_ended()) from None
        self.jobs += 1
        if not isinstance(said, dict):
            raise NotComparable("the comparison ended with nonsense")
        return said

    def _write(self, data: bytes, until: float) -> None:
        view = memoryview(data)
        while view:
            _wait(self._in, select.POLLOUT, until)
            try:
                view = view[os.write(self._in, view[:_CHUNK]) :]
            except BlockingIOError:
                continue

    def _read(self, size: int, until: float) -> bytes:
        parts, left = [], size
        while left:
            _wait(self._out, select.POLLIN, until)
            part = os.read(self._out, min(left, _CHUNK))
            if not part:
                raise EOFError
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _why_it_ended(self) -> str:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "the comparison ended early"
        if code == -signal.SIGALRM:
            return "the comparison took too long"
        if code < 0:
            name = signal.Signals(-code).name
            return (
                f"the comparison was ended by {name}: the answer is too much for "
                f"{self.memory >> 20} MiB, or breaks the parser"
            )
        return f"the comparison ended with code {code}; its last words are in the log"

    def end(self) -> None:
        """Kill it, and let nothing of it remain. Does nothing the second time."""
        with self._ending:
            if self._process.stdin is None or self._process.stdin.closed:
                return
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            assert self._process.stdout is not None
            self._process.stdout.close()


def _wait(descriptor: int, event: int, until: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = until - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


def _alike(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same byte for byte, so that no child need look at them."""
    return (
        one.status == other.status
        and one.digest == other.digest
        and one.reason == other.reason
        and one.headers == other.headers
    )


def _lean(answer: Answer) -> Answer:
    """Without what is not compared."""
    fields = (answer.status, answer.reason, list(answer.headers), answer.body)
    return Answer(*fields, answer.length, answer.digest, answer.whole)


def _differences(said: dict[str, Any]) -> Differences:
    found = (Difference(**{key: str(one[key]) for key in one}) for one in said["differences"])
    return Differences(found, frozenset(map(str, said["used"])))


# --- the child


def _told(differences: Differences) -> dict[str, Any]:
    return {"differences": [asdict(one) for one in differences], "used": sorted(differences.used)}


def _done(job: Any) -> Any:
    what, answers, further = job
    if what == "find":
        return _told(find(*answers))
    settled = settle(*answers, **further)
    return {
        "different": _told(settled.different),
        "noise": _told(settled.noise),
        "gone": _told(settled.gone),
        "learned": [asdict(way) for way in settled.learned],
        "used": sorted(settled.used),
    }


def _said(job: bytes, memory: int) -> dict[str, Any]:
    try:
        return {"found": _done(pickle.loads(job))}  # noqa: S301 - from our own parent
    except NotComparable as error:
        return {"why": str(error)}
    except MemoryError:
        return {"why": f"the comparison needs more than {memory >> 20} MiB", "last": True}
    except RecursionError:
        return {"why": "the answer is nested too deeply"}


def _serve(seconds: float, memory: int, inward: BinaryIO, outward: BinaryIO) -> None:
    """Answer one job after the other until the parent has gone."""
    # The largest that a process ever was counts what its parent was before it started.
    large = max(memory // 2, _largest())
    outward.write(b"+")
    outward.flush()
    while len(head := inward.read(_SIZE.size)) == _SIZE.size:
        job = inward.read(_SIZE.unpack(head)[0])
        # The parent kills sooner; this is for a child whose parent has gone.
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 1)
        said = _said(job, memory)
        del job
        if _largest() > large:
            said["last"] = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        text = json.dumps(said).encode()
        outward.write(_SIZE.pack(len(text)) + text)
        outward.flush()


def _largest() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _main() -> None:
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(seconds, memory, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    _main()
