"""A worker on a thread of its own, and the minimal sync.yaml."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from bridge.settings import Settings
from bridge.sync.documents import Mirror
from bridge.sync.worker import Counters, run_worker
from tests.minimal_sync import mirror_of, write_sync


class RunningWorker:
    """A worker that runs."""

    def __init__(self, settings: Settings) -> None:
        self.counters = Counters()
        self.error: BaseException | None = None
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            log = structlog.get_logger()
            run_worker(self._settings, stop=self._stop, log=log, counters=self.counters)
        except BaseException as error:
            self.error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop it; raise what it died of."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


StartWorker = Callable[[str, str], RunningWorker]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str, str], Settings]:
    """settings(broker_url, mongodb_url), with the minimal sync.yaml."""
    sync = write_sync(tmp_path)

    def _settings(broker_url: str, mongodb_url: str) -> Settings:
        return Settings(tmp_path / "routes.yaml", broker_url, mongodb_url, tmp_path, sync=sync)

    return _settings


@pytest.fixture(scope="session")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    """The mirror of the minimal sync.yaml: project to projects, release to releases."""
    return mirror_of(tmp_path_factory.mktemp("minimal"))


@pytest.fixture
def start_worker(settings: Callable[[str, str], Settings]) -> Iterator[StartWorker]:
    """start_worker(broker_url, mongodb_url) -> RunningWorker; stopped at the end of the test."""
    running: list[RunningWorker] = []

    def _start(broker_url: str, mongodb_url: str) -> RunningWorker:
        running.append(RunningWorker(settings(broker_url, mongodb_url)))
        return running[-1]

    yield _start
    for worker in running:
        worker.stop()
