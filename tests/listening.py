"""A listener on a thread, and a broker that only notes what it is given."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from werkzeug.wrappers import Request, Response

from bridge.errors import ServerAway
from bridge.listener import Limits, Listener
from bridge.operator import application
from bridge.queue.events import Event
from bridge.queue.ingest import Ingest
from bridge.settings import Settings
from tests.acceptance.raw_http import Answer, ask, request

TOKEN = "the-token"
SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


class Broker:
    """Notes what is published, one list a call. `away`: it is not there. `hold`: calls wait for
    it to be set."""

    def __init__(self) -> None:
        self.calls: list[list[Event]] = []
        self.away = False
        self.hold = threading.Event()
        self.hold.set()

    def publish_many(self, events: Sequence[Event]) -> None:
        if self.away:
            raise ServerAway("Redis does not answer at redis://127.0.0.1:6379/0")
        assert self.hold.wait(20)
        self.calls.append(list(events))

    @property
    def events(self) -> list[Event]:
        return [event for call in self.calls for event in call]


def settings(token: str = TOKEN) -> Settings:
    return Settings(
        routes=Path("routes.yaml"),
        broker_url="redis://127.0.0.1:1/0",
        mongodb_url="mongodb://127.0.0.1:1/bridge",
        state_dir=Path("/nowhere"),
        operator_token=token,
    )


def operator(
    broker: Broker | None = None,
    token: str = TOKEN,
    ingest: Callable[[Request], Response] | None = None,
) -> Any:
    """The operator's application with a metric, good health, and events for `broker`."""
    if broker is not None:
        ingest = Ingest(broker.publish_many)
    return application(settings(token), metrics=lambda: b"up 1\n", health=lambda: "", ingest=ingest)


class Listening:
    """A context manager; `address` is host:port."""

    def __init__(self, app: Any, limits: Limits | None = None) -> None:
        self.listener = Listener("127.0.0.1", 0, app, limits)
        self.address = f"127.0.0.1:{self.listener.server_port}"
        self._thread = threading.Thread(target=self.listener.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.listener.shutdown()
        self._thread.join(10)
        self.listener.server_close()
        assert self.listener.wait_until_idle(10)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        return ask(self.address, request("GET", path, self.address, headers))

    def head(self, **headers: str) -> bytes:
        """The head of a POST /events with the token; names with _ for -; no Content-Length."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        wanted = {"Authorization": f"Bearer {TOKEN}", "Content-Type": SINGLE, **named}
        return request("POST", "/events", self.address, wanted)

    def post(self, body: bytes, **headers: str) -> Answer:
        """POST /events with the token and a right Content-Length."""
        return ask(self.address, self.head(Content_Length=str(len(body)), **headers) + body)


def errors(answer: Answer) -> list[tuple[int | None, str]]:
    """The errors that an answer of the ingest lists."""
    assert answer.get("Content-Type") == "application/json"
    return [(one["index"], one["error"]) for one in json.loads(answer.body)["errors"]]


def event(version: int = 1, key: str = "vim", **data: object) -> Event:
    return Event(
        "project", "changed", key, version, {"name": key, **data}, time="2026-01-02T03:04:05Z"
    )
