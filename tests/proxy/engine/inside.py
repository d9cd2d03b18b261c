"""An engine in a thread of the test's own process, so that a test can look inside."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import uvloop
from werkzeug.wrappers import Request, Response

from bridge.proxy.engine.acceptor import Acceptor
from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.limits import Limits
from bridge.proxy.front import Front
from bridge.proxy.python.threads import HandlerThreads
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.shadow.tap import Shadow
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND
from tests.proxy.shells.visitor import Visitor

__all__ = [
    "HOST",
    "Computing",
    "Inside",
    "computing",
    "engine",
    "large",
    "release",
    "speaking",
    "spoken",
    "stuck",
]

HOST = "forge.example"
release = threading.Event()
"""Lets the handlers go that are `stuck` or `speaking`."""
spoken: list[str] = []
"""What `speaking` has to say of its end."""

Found = TypeVar("Found")


def stuck(request: Request) -> Response:
    """A handler that waits for what does not come."""
    release.wait(BOUND)
    return Response("python")


def large(request: Request) -> Response:
    """A handler with a page that no kernel takes at once."""
    return Response(b"x" * 8_000_000)


class Computing:
    """A handler that computes for as many seconds of processor time as the query says.
    `at_once` are the numbers of its calls that ran when one more began, with that one."""

    def __init__(self) -> None:
        self.at_once: list[int] = []
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        with self._lock:
            self._running += 1
            self.at_once.append(self._running)
        until = time.thread_time() + float(request.query_string)
        while time.thread_time() < until:
            sum(range(100))
        with self._lock:
            self._running -= 1
        return Response("computed")


computing = Computing()


def speaking(request: Request) -> Response:
    """A handler that says `first` if it is asked to, and without end when it is let go."""

    def words() -> Iterator[bytes]:
        try:
            if "first" in request.args:
                yield b"first"
            release.wait(BOUND)
            while True:
                yield b"x" * 1000
        finally:
            spoken.append("closed")

    return Response(words())


@dataclass(eq=False)
class Inside:
    """A running engine. Requests that come are answered on `table`."""

    table: RouteTable
    engine: Engine
    acceptor: Acceptor
    address: tuple[str, int]

    def visitor(self) -> Visitor:
        return Visitor(self.address)

    def look(self, what: Callable[[], Found]) -> Found:
        """What `what` returns on the event loop's thread."""

        async def ask() -> Found:
            return what()

        return asyncio.run_coroutine_threadsafe(ask(), self.engine.loop).result(BOUND)

    def tasks(self) -> int:
        """How many tasks there are besides the one that counts and the one that serves."""
        return self.look(lambda: len(asyncio.all_tasks())) - 2

    def wait_until_empty(self) -> None:
        wait_for(
            lambda: not self.engine.visitors and not self.tasks(), BOUND, "the last visitor to go"
        )


def alive(*kinds: type) -> int:
    """How many objects of these kinds there are."""
    gc.collect()
    return sum(isinstance(thing, kinds) for thing in gc.get_objects())


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1


@contextlib.contextmanager
def engine(
    table: RouteTable,
    *,
    limits: Limits | None = None,
    handlers: int = 4,
    most: int = 1000,
    descriptors: int = 1_000_000,
    tls: ssl.SSLContext | None = None,
    shadow: Shadow | None = None,
) -> Iterator[Inside]:
    """Serve `table`; `most` and `descriptors` are the Acceptor's, `tls` is for visitors."""
    loop = uvloop.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    started, over = threading.Event(), asyncio.Event()
    made: list[Inside] = []
    front = Front(lambda: made[0].table, tunnels=True, shadow=shadow)

    async def serve() -> None:
        shared = Engine(front, HandlerThreads(handlers), loop, limits=limits)
        speaks = {"ssl": tls} if tls else None
        acceptor = Acceptor(shared, [listener], most=most, descriptors=descriptors, tls=speaks)
        made.append(Inside(table, shared, acceptor, listener.getsockname()))
        await acceptor.open()
        shared.start()
        started.set()
        await over.wait()
        acceptor.close()
        for visitor in list(shared.visitors):
            visitor.transport.abort()
        for upstream in shared.upstreams.all():
            upstream.close()
        await asyncio.sleep(0.05)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(BOUND)
        yield made[0]
    finally:
        release.set()
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
        listener.close()
        release.clear()
