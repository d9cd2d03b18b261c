"""One bridge and one scripted legacy server for the whole folder: starting costs time."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.apache import Apache
from stack.nginx import NginxPhp
from stack.ports import free_port
from tests.certificate import make_certificate
from tests.deploy.servers_differ import DIFFERS, why
from tests.installed import skip_if_missing
from tests.proxy.shells.double import Backend
from tests.proxy.shells.serving import Bridge, full_listener

DOCROOT = Path(__file__).with_name("docroot")
COUNTING = "tests.proxy.shells.counting:application"


@pytest.fixture(scope="session")
def http_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("http")


@pytest.fixture(scope="session")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="session")
def unix_double(http_home: Path) -> Iterator[Backend]:
    with Backend(unix=http_home / "legacy.sock") as backend:
        yield backend


@pytest.fixture(scope="session")
def certificate(http_home: Path) -> tuple[Path, Path]:
    return make_certificate(http_home, "legacy")


@pytest.fixture(scope="session")
def tls_double(certificate: tuple[Path, Path]) -> Iterator[Backend]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Backend(tls=context) as backend:
        yield backend


@pytest.fixture(scope="session")
def nginx(http_home: Path) -> Iterator[NginxPhp]:
    """A real nginx with php-fpm; it names the connection it was asked on."""
    extra = """
        gzip on; gzip_types text/css; gzip_min_length 100;
        add_header X-Connection $connection always;
    """
    with NginxPhp(http_home / "nginx", DOCROOT, extra=extra) as server:
        yield server


@pytest.fixture(scope="session")
def fifo(http_home: Path) -> Path:
    """The named pipe that hanging handlers wait for."""
    path = http_home / "release"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="session")
def events(http_home: Path) -> Path:
    """The file in which handlers note what happens to them."""
    path = http_home / "events"
    path.touch()
    return path


@pytest.fixture
def release(fifo: Path) -> Iterator[Callable[[], bool]]:
    """Let the handlers go that hang now; True when there was at least one."""

    def let_go() -> bool:
        try:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False  # nobody has opened it for reading
        return True

    yield let_go
    let_go()


@pytest.fixture(scope="session")
def places(
    double: Backend,
    unix_double: Backend,
    tls_double: Backend,
    nginx: NginxPhp,
) -> Iterator[dict[str, str]]:
    """What the names in the template of routes.yaml stand for."""
    listener, fill = full_listener()
    host = "http://127.0.0.1"
    yield {
        "DOUBLE": f"{host}:{double.port}",
        "UNIX": str(unix_double.unix),
        "TLS": f"https://127.0.0.1:{tls_double.port}",
        "REFUSED": f"{host}:{free_port()}",
        "FULL": f"{host}:{listener.getsockname()[1]}",
        "NGINX": nginx.url,
    }
    for sock in [listener, *fill]:
        sock.close()


ENGINES = ["event", "gthread", pytest.param("mod_wsgi", marks=pytest.mark.long)]
"""The two shells: every rule holds in both. The WSGI shell runs under stock gunicorn and inside
Apache; what these do to a request is in `tests.deploy.servers_differ`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of what another server does otherwise are skipped there, each with its reason."""
    for item in items:
        for engine, differs in DIFFERS.items():
            if engine in item.name and (reason := why(item.name, differs)):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Which shell answers."""
    name: str = request.param
    return name


def _skip_without_apache(engine: str) -> None:
    if engine == "mod_wsgi":
        skip_if_missing(Apache(Path(), "", modules=["wsgi"]))


@pytest.fixture(scope="session")
def public_bridge(
    http_home: Path,
    places: dict[str, str],
    certificate: tuple[Path, Path],
    fifo: Path,
    events: Path,
    engine: str,
) -> Iterator[Bridge]:
    """A bridge that visitors reach directly."""
    env = {"SSL_CERT_FILE": str(certificate[0]), "TEST_FIFO": str(fifo), "TEST_EVENTS": str(events)}
    _skip_without_apache(engine)
    bridge = Bridge(http_home / f"public-{engine}", places, env=env, engine=engine, app=COUNTING)
    bridge.start()
    yield bridge
    bridge.stop()


@pytest.fixture(scope="session")
def inner_bridge(
    http_home: Path,
    double: Backend,
    tls_double: Backend,
    fifo: Path,
    events: Path,
    engine: str,
) -> Iterator[Bridge]:
    """A bridge behind a proxy that it trusts, with one thread for handlers."""
    places = {
        "DOUBLE": f"http://127.0.0.1:{double.port}",
        "TLS": f"https://127.0.0.1:{tls_double.port}",
    }
    env = {"TEST_FIFO": str(fifo), "TEST_EVENTS": str(events), "TEST_HANDLERS": "1"}
    _skip_without_apache(engine)
    bridge = Bridge(
        http_home / f"inner-{engine}",
        places,
        trusted=["127.0.0.1", "10.0.0.0/8"],
        options=["--handlers", "1"],
        env=env,
        engine=engine,
        app=COUNTING,
    )
    bridge.start()
    yield bridge
    bridge.stop()


def _watched(bridge: Bridge) -> Iterator[Bridge]:
    bridge.mark()
    yield bridge
    assert "bug in the proxy" not in bridge.errors()
    assert bridge.server.alive


@pytest.fixture
def bridge(public_bridge: Bridge, backend: Backend) -> Iterator[Bridge]:
    """The bridge that visitors reach directly; afterwards it must have found no bug in itself."""
    yield from _watched(public_bridge)


@pytest.fixture
def trusting(inner_bridge: Bridge, backend: Backend) -> Iterator[Bridge]:
    """The bridge behind a proxy that it trusts."""
    yield from _watched(inner_bridge)


@pytest.fixture
def backend(double: Backend) -> Iterator[Backend]:
    """The scripted legacy server, without scripts and without memories."""
    double.clear()
    yield double
    double.clear()
