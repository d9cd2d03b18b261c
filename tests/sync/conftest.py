"""A worker on a thread of its own, and the minimal sync.yaml."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pymongo.database import Database

from bridge.settings import Settings
from bridge.sync.documents import Mirror
from bridge.sync.worker import Counters, run_worker
from stack.mariadb import MariaDB
from tests.minimal_sync import mirror_of, write_sync
from tests.sync.log.site import LOG_OPTIONS, LogSite


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


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def logging_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB that writes a log, for the whole run."""
    folder = tmp_path_factory.mktemp("logging")
    with MariaDB(folder, options=LOG_OPTIONS, grants=True) as server:
        yield server


@pytest.fixture
def log_site(
    logging_mariadb: MariaDB,
    mongodb_url: str,
    clean_mongodb: Database[dict[str, Any]],
    tmp_path: Path,
) -> Iterator[LogSite]:
    """A site whose changes are read from the log; nothing is loaded."""
    name = f"logged_{next(_numbers)}"
    site = LogSite(logging_mariadb, name, mongodb_url, clean_mongodb, tmp_path)
    yield site
    site.close()
