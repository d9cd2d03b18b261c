"""Many visitors at once: threads that keep asking over kept-alive connections."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Seen", "Visitors"]


@dataclass(frozen=True)
class Seen:
    """One answer as a visitor saw it."""

    target: str
    headers: Mapping[str, str]
    body: bytes


class Visitors:
    """Each thread asks its targets in turn, again and again, on one connection.

    Nothing is retried: an exception, or a status other than 200, is a failure, in words. As a
    context manager it starts the threads, and stops and joins them at the end.
    """

    def __init__(self, address: str, *targets: Sequence[str]) -> None:
        """address: host:port. targets: those of the first thread, of the second, …"""
        self.address = address
        self.answers: list[Seen] = []
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(own,)) for own in targets]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, targets: Sequence[str]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        for target in itertools.cycle(targets):
            if self._end.is_set():
                break
            try:
                connection.request("GET", target)
                answer = connection.getresponse()
                body = answer.read()
            except Exception as error:
                self.failures.append(f"{target}: {error!r}")
                connection.close()
                continue
            if answer.status != 200:
                self.failures.append(f"{target}: {answer.status}")
            else:
                self.answers.append(Seen(target, answer.headers, body))
        connection.close()
