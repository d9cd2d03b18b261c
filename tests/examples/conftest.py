"""The forge on three footings: php -S with SQLite, nginx and php-fpm, php -S with MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.nginx import NginxPhp
from stack.php import PhpServer
from stack.process import REPOSITORY
from stack.redis import Redis
from tests.examples.forge_site import LEGACY, Site, mongo_client, reading

# Each site's own numbered database of the shared Redis.
FOOTINGS = {"sqlite": 11, "nginx": 12, "mariadb": 13}


@pytest.fixture(scope="session", params=FOOTINGS)
def forge(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mongodb: Mongod,
    redis_server: Redis,
) -> Iterator[Site]:
    """A loaded forge for the whole run, and its mirror after the first load."""
    footing = request.param
    directory = tmp_path_factory.mktemp(f"forge-{footing}")
    number = FOOTINGS[footing]
    environment = {
        "FORGE_DATA_DIR": str(directory / "site"),
        "FORGE_REDIS_PORT": str(redis_server.port),
        "FORGE_REDIS_DB": str(number),
        # On a busy machine 50 ms may pass; what happens then is tests/php's business.
        "FORGE_REDIS_TIMEOUT_MS": "5000",
    }
    sql_url = f"sqlite:///{directory / 'site' / 'forge.sqlite'}"
    with ExitStack() as stack:
        if footing == "mariadb":
            sql = stack.enter_context(MariaDB(directory / "sql", database="forge"))
            environment |= {"FORGE_DSN": sql.dsn, "FORGE_DB_USER": "root"}
            sql_url = sql.url
        server: PhpServer | NginxPhp
        if footing == "nginx":
            server = NginxPhp(directory / "web", LEGACY / "htdocs", env=environment)
        else:
            server = PhpServer(
                directory / "web",
                LEGACY / "htdocs",
                router=LEGACY / "router.php",
                env=environment,
            )
        url = mongodb.url_of(f"forge_{footing}")
        client = stack.enter_context(mongo_client(url))
        queue = stack.enter_context(redis_server.client(number))
        bridge = {
            "BRIDGE_MONGODB_URL": url,
            "BRIDGE_SQL_URL": sql_url,
            "BRIDGE_BROKER_URL": redis_server.url_of(number),
            "BRIDGE_SYNC": str(REPOSITORY / "sync.yaml"),
            "BRIDGE_STATE_DIR": str(directory / "state"),
        }
        site = Site(server, environment, bridge, queue, client.get_default_database(), footing)
        site.run("load.php")
        site.bridge("sync", "init")
        site.bridge("snapshot")
        stack.enter_context(server)
        yield site


@pytest.fixture
def site(forge: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The forge, its mirror up to date, and the Python views reading that mirror."""
    forge.fill_mirror()
    # What the cache has is some milliseconds behind; that it follows is a test of its own.
    with reading(monkeypatch, forge.bridge_environment, cache=None):
        yield forge
