"""Kombu's own integration tests, from the source distribution of the version that is installed."""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from types import ModuleType

import kombu
import pytest
import redis

import bridge.queue.streams  # noqa: F401  # registers the URLs
from stack.ports import free_port
from stack.process import REPOSITORY

KEPT = REPOSITORY / ".stack" / "kombu-sdist"

# Their tests open channels and connections and leave them to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def _common() -> ModuleType:
    """The module t/integration/common.py, fetched once and kept."""
    folder = KEPT / f"kombu-{kombu.__version__}"
    source = folder / "t" / "integration" / "common.py"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / "lock", "w", encoding="utf-8") as lock:
        # Every process of a run comes here at once: one of them fetches it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not source.exists():
            _fetch()
    spec = importlib.util.spec_from_file_location("kombu_integration_common", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fetch() -> None:
    words = ["pip", "download", "--quiet", "--no-deps"]
    words += ["--no-binary", ":all:", "--dest", str(KEPT), f"kombu=={kombu.__version__}"]
    for tries_left in (2, 1, 0):
        try:
            subprocess.run([sys.executable, "-m", *words], check=True, timeout=100)
            break
        except subprocess.SubprocessError:
            if not tries_left:
                raise
    with tarfile.open(next(KEPT.glob(f"kombu-{kombu.__version__}.tar.gz"))) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(KEPT, **safely)


common = _common()


@pytest.fixture(params=["", "site."], ids=["no_prefix", "prefix"])
def connection(
    request: pytest.FixtureRequest, redis_url: str, clean_redis: redis.Redis
) -> Iterator[kombu.Connection]:
    connection = kombu.Connection(
        redis_url.replace("redis:", "redis+streams:"),
        transport_options={"global_keyprefix": request.param},
    )
    yield connection
    connection.release()
    # Nobody writes beside the prefix.
    assert [
        key for key in clean_redis.keys("*") if not key.startswith(request.param.encode())
    ] == []


@pytest.fixture
def invalid_connection() -> Iterator[kombu.Connection]:
    connection = kombu.Connection(f"redis+streams://127.0.0.1:{free_port()}/0")
    yield connection
    connection.release()


class TestBasicFunctionality(common.BasicFunctionality):  # type: ignore[misc, name-defined]
    pass


class TestExchangeTypes(common.BaseExchangeTypes):  # type: ignore[misc, name-defined]
    pass


class TestMessage(common.BaseMessage):  # type: ignore[misc, name-defined]
    pass
