"""The visitors of `bench.chaos`: each asks one question after the other on a connection that is
kept, reads what comes as strictly as it is framed, and lets `bench.chaos_pages` judge it by what
was broken meanwhile."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from bench.chaos_pages import Answer, Question, ask, complaint

__all__ = ["BOUND", "Found", "Troubles", "Visitor"]

BOUND = 20.0
"""Seconds until the end of an answer. Far more than the time limits in routes.yaml come to, because
other processes may have the machine."""

_THINKS = 0.02  # seconds at most between two questions
_KEPT = 20  # questions of a connection, about
_EXAMPLES = 20


class Troubles:
    """What was broken, and when: `time.monotonic()` of both ends."""

    AFTER: ClassVar[dict[str, float]] = {
        "legacy": 0.5,
        "handlers": 5.0,
        "routes": 3.0,
        "workers": 0.5,
    }
    """Seconds for which a trouble is one after its end: handlers that hang have threads, a table
    has to be loaded."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, float, float]] = []
        self._lock = threading.Lock()

    def begin(self, name: str) -> int:
        """Before the harm is done; the number for `end`."""
        with self._lock:
            self._spans.append((name, time.monotonic(), float("inf")))
            return len(self._spans) - 1

    def end(self, number: int) -> None:
        """After it is mended."""
        with self._lock:
            name, began, _ = self._spans[number]
            self._spans[number] = (name, began, time.monotonic() + self.AFTER[name])

    def between(self, start: float, end: float) -> frozenset[str]:
        """Names of those of which some part was between the two times."""
        with self._lock:
            return frozenset(name for name, a, b in self._spans if a <= end and start <= b)


@dataclass
class Found:
    """What the visitors have found. `in_flight` are answers that a killed worker took along."""

    checked: int = 0
    wrong: int = 0
    missing: int = 0
    in_flight: int = 0
    slowest: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self, question: Question, answer: Answer, troubles: frozenset[str], seconds: float
    ) -> None:
        """One more answer, and how long it took."""
        kind, why = complaint(question, answer, troubles)
        with self._lock:
            self.checked += 1
            self.slowest = max(self.slowest, seconds)
            side = answer.headers.get("x-side", "ours")
            self.kinds[f"{side} {answer.status}" if answer.whole else "cut off"] += 1
            self.wrong += kind == "wrong"
            self.missing += kind == "missing"
            self.in_flight += not kind and not answer.whole and "workers" in troubles
            if kind and len(self.examples) < _EXAMPLES:
                asked = f"{question.method} {question.target}"
                trouble = ", ".join(sorted(troubles)) or "nothing"
                self.examples.append(f"{kind}: {asked}: {why} ({seconds:.2f} s, {trouble} broken)")


class Visitor(threading.Thread):
    """One who asks until `stop` is set."""

    def __init__(
        self,
        number: int,
        address: tuple[str, int],
        seed: int,
        troubles: Troubles,
        found: Found,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"visitor-{number}", daemon=True)
        self.number, self.address = number, address
        self.troubles, self.found, self.stop = troubles, found, stop
        self.chance = random.Random(f"{seed} {number}")
        self._sock: socket.socket | None = None
        self._buffer = b""

    def run(self) -> None:
        asked = 0
        while not self.stop.is_set():
            asked += 1
            question = ask(self.chance, asked, self.number)
            began = time.monotonic()
            answer = self._ask(question, began + BOUND)
            ended = time.monotonic()
            if not answer.whole:
                # Who kills notes it before and after; this may be in between.
                time.sleep(0.05)
            troubles = self.troubles.between(began, ended)
            self.found.note(question, answer, troubles, ended - began)
            if not answer.whole or self.chance.random() < 1 / _KEPT:
                self._close()
            self.stop.wait(self.chance.random() * _THINKS)
        self._close()

    def _ask(self, question: Question, deadline: float) -> Answer:
        answer = Answer()
        try:
            sock = self._connected()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # An early answer may be there all the same.
                sock.sendall(question.raw(f"{self.address[0]}:{self.address[1]}"))
            self._read(answer, deadline)
        except TimeoutError:
            answer.late = True
        except (OSError, EOFError):
            pass
        return answer

    def _connected(self) -> socket.socket:
        """The kept connection if the other side has not closed it, else a new one."""
        if self._sock and (self._buffer or select.select([self._sock], [], [], 0)[0]):
            self._close()
        if self._sock is None:
            self._sock = socket.create_connection(self.address, timeout=BOUND)
        return self._sock

    def _close(self) -> None:
        if self._sock:
            self._sock.close()
        self._sock, self._buffer = None, b""

    def _read(self, answer: Answer, deadline: float) -> None:
        """Fill in `answer`. Raises OSError or EOFError for what is not whole."""
        while True:
            head = self._until(b"\r\n\r\n", deadline).decode("latin-1")
            first, *lines = head.split("\r\n")
            status = int(first.split(" ")[1])
            if status >= 200:
                break
        headers = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines)
        answer.status, answer.headers = status, headers
        if "transfer-encoding" in headers:
            while size := int(self._until(b"\r\n", deadline), 16):
                answer.body += self._bytes(size, deadline, answer)
                self._bytes(2, deadline)
            self._until(b"\r\n", deadline)
        elif "content-length" in headers:
            answer.body += self._bytes(int(headers["content-length"]), deadline, answer)
        else:
            self._until_closed(answer, deadline)
        answer.whole = True
        if headers.get("connection", "").lower() == "close":
            self._close()

    def _more(self, deadline: float) -> bytes:
        assert self._sock
        self._sock.settimeout(max(0.01, deadline - time.monotonic()))
        got = self._sock.recv(65536)
        if not got:
            raise EOFError
        return got

    def _until(self, mark: bytes, deadline: float) -> bytes:
        while mark not in self._buffer:
            self._buffer += self._more(deadline)
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _bytes(self, size: int, deadline: float, of: Answer | None = None) -> bytes:
        """So many. Where they do not come, `of` gets those that came."""
        try:
            while len(self._buffer) < size:
                self._buffer += self._more(deadline)
        except (OSError, EOFError):
            if of:
                of.body += self._buffer
            raise
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _until_closed(self, answer: Answer, deadline: float) -> None:
        answer.body, self._buffer = self._buffer, b""
        try:
            while True:
                answer.body += self._more(deadline)
        except EOFError:
            self._close()
