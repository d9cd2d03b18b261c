"""RabbitMQ, MariaDB and PostgreSQL start, keep what they confirmed when killed, and end."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from kombu import Connection, Queue
from kombu.simple import SimpleQueue
from sqlalchemy.pool import NullPool

from stack.errors import ServerFailed
from stack.mariadb import MariaDB
from stack.php import run_php
from stack.ports import is_free
from stack.postgres import Postgres
from stack.process import Server
from stack.rabbitmq import RabbitMQ
from stack.waiting import wait_for
from tests.installed import skip_if_missing

pytestmark = pytest.mark.acceptance

MORE_SERVERS = [RabbitMQ, MariaDB, Postgres]
# RabbitMQ takes five seconds for each start.
MORE_SERVERS_SLOWLY = [pytest.param(RabbitMQ, marks=pytest.mark.long), MariaDB, Postgres]
# A unix socket's path must fit into 108 bytes, and a node's files into their names.
LONG = "x" * 120


@contextmanager
def queue(url: str) -> Iterator[SimpleQueue]:
    """A durable quorum queue whose every `put` is confirmed."""
    arguments = {"x-queue-type": "quorum"}
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        durable = Queue("q", routing_key="q", queue_arguments=arguments)
        simple = SimpleQueue(connection.default_channel, durable)
        yield simple
        simple.close()


@contextmanager
def database(url: str) -> Iterator[sa.Connection]:
    """A connection with a transaction, which is committed."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def put(url: str, text: str) -> None:
    """Keep `text` in the server of `url`, durably."""
    if url.startswith("amqp"):
        with queue(url) as messages:
            messages.put(text)
        return
    with database(url) as connection:
        connection.execute(sa.text("CREATE TABLE kept (word VARCHAR(80))"))
        connection.execute(sa.text("INSERT INTO kept VALUES (:word)"), {"word": text})


def take(url: str) -> str:
    """What `put` kept there."""
    if url.startswith("amqp"):
        with queue(url) as messages:
            message = messages.get(timeout=30)
            message.ack()
            return str(message.payload)
    with database(url) as connection:
        return str(connection.execute(sa.text("SELECT word FROM kept")).scalar_one())


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE_SERVERS)
def test_a_killed_server_comes_back_on_its_port_with_what_it_confirmed(
    tmp_path: Path, kind: type[RabbitMQ | MariaDB | Postgres]
) -> None:
    """SIGKILL after the commit or the confirm; nothing is running then."""
    with skip_if_missing(kind(tmp_path)) as server:
        port, killed = server.port, server.processes()
        put(server.url, "Grüße")
        if isinstance(server, RabbitMQ):
            server.settle()
        server.kill()
        assert killed
        assert server.processes() == []
        assert is_free(port)
        server.start()
        assert server.port == port
        assert take(server.url) == "Grüße"


@pytest.mark.parametrize("kind", MORE_SERVERS_SLOWLY)
def test_a_stopped_server_leaves_no_process_and_keeps_its_data(
    tmp_path: Path, kind: type[RabbitMQ | MariaDB | Postgres]
) -> None:
    """An orderly end, and another object on the same directory goes on, on another port."""
    with skip_if_missing(kind(tmp_path)) as server:
        put(server.url, "kept")
    assert server.processes() == []
    assert processes_in(tmp_path) == []
    assert is_free(server.port)
    with kind(tmp_path) as again:
        assert again.port != server.port
        assert take(again.url) == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE_SERVERS_SLOWLY)
def test_servers_work_in_a_directory_with_a_very_long_name(
    tmp_path: Path, kind: type[RabbitMQ | MariaDB | Postgres]
) -> None:
    """Paths of sockets, nodes and clusters have limits of their own."""
    with skip_if_missing(kind(tmp_path / LONG)) as server:
        put(server.url, "far away")
        assert take(server.url) == "far away"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE_SERVERS_SLOWLY)
def test_another_server_on_the_port_is_not_taken_for_ours(
    request: pytest.FixtureRequest, tmp_path: Path, kind: type[RabbitMQ | MariaDB | Postgres]
) -> None:
    """The port is taken: the start fails and says so, though the port answers."""
    shared: Server = request.getfixturevalue(kind.__name__.lower())
    with pytest.raises(ServerFailed):
        kind(tmp_path, port=shared.port).start()
    assert processes_in(tmp_path) == []
    assert shared.ready()


def test_rabbitmq_ends_with_its_name_service(tmp_path: Path) -> None:
    """An epmd that went on would be found by every later Erlang program."""
    with skip_if_missing(RabbitMQ(tmp_path)) as server:
        names = sorted(Path(f"/proc/{pid}/comm").read_text() for pid in server.processes())
        assert "epmd\n" in names
        assert not is_free(server.epmd_port)
    assert is_free(server.epmd_port)
    assert is_free(server.distribution_port)


@pytest.mark.slow
def test_a_vhost_of_rabbitmq_is_a_world_of_its_own(rabbitmq: RabbitMQ) -> None:
    """What is in one is not in the other, and a removed one is gone."""
    one, two = rabbitmq.create_vhost("one"), rabbitmq.create_vhost("two")
    put(one, "in one")
    with queue(two) as messages:
        assert messages.qsize() == 0
    assert take(one) == "in one"
    rabbitmq.delete_vhost("one")
    rabbitmq.delete_vhost("two")
    assert not {"one", "two"} & set(rabbitmq.control("list_vhosts").split())


@pytest.mark.slow
def test_messages_confirmed_just_before_the_kill_are_kept_in_order(tmp_path: Path) -> None:
    """Once the queue itself is settled, nothing has to be waited for."""
    with skip_if_missing(RabbitMQ(tmp_path)) as server:
        put(server.url, "0")
        server.settle()
        with queue(server.url) as messages:
            for number in range(1, 200):
                messages.put(str(number))
        server.kill()
        server.start()
        assert [take(server.url) for _ in range(200)] == [str(n) for n in range(200)]


def test_a_failed_rabbitmqctl_says_why(rabbitmq: RabbitMQ) -> None:
    """Its output is in the exception."""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        rabbitmq.delete_vhost("never made")
    assert "does not exist" in failed.value.output


def test_every_test_gets_an_empty_vhost(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    """The fixture's URL is of the shared server and works."""
    assert rabbitmq.address in rabbitmq_url
    put(rabbitmq_url, "mine")
    assert take(rabbitmq_url) == "mine"


@pytest.mark.parametrize("fixture", ["mariadb_url", "postgres_url"])
@pytest.mark.parametrize("time", ["first", "second"])
def test_every_test_gets_an_empty_database(
    request: pytest.FixtureRequest, fixture: str, time: str
) -> None:
    """Both times the table can be made; it is not there from before."""
    url = request.getfixturevalue(fixture)
    put(url, time)
    assert take(url) == time


@pytest.mark.parametrize("fixture", ["mariadb", "postgres"])
def test_a_database_made_again_is_empty(request: pytest.FixtureRequest, fixture: str) -> None:
    """Whatever a killed run left in it."""
    server: MariaDB | Postgres = request.getfixturevalue(fixture)
    put(server.create_database("again"), "once")
    put(server.create_database("again"), "twice")
    assert take(server.url_of("again")) == "twice"
    server.drop_database("again")


def test_mariadb_commits_durably_and_without_a_binlog(mariadb_url: str) -> None:
    """As the outbox needs it: what was committed is on disk."""
    with database(mariadb_url) as connection:
        settings = connection.execute(
            sa.text("SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@version_comment")
        ).one()
    assert settings[:2] == (1, 0)


def test_mariadb_takes_further_options(tmp_path: Path) -> None:
    """The buffer pool and words of the command line."""
    options = ["--max-connections=17"]
    with (
        MariaDB(tmp_path, buffer_pool="24M", options=options) as server,
        database(server.url) as connection,
    ):
        found = connection.execute(
            sa.text("SELECT @@innodb_buffer_pool_size, @@max_connections")
        ).one()
    assert found == (24 * 1024 * 1024, 17)


def test_php_reaches_mariadb_by_its_dsn(mariadb: MariaDB, tmp_path: Path) -> None:
    """PDO on the port, as the legacy side does it."""
    script = tmp_path / "ask.php"
    script.write_text(
        "<?php $db = new PDO($argv[1], 'root', '');"
        "echo $db->query(\"SELECT CONCAT(DATABASE(), ' ', 'ß')\")->fetchColumn();"
    )
    assert run_php(script, mariadb.dsn) == "bridge ß"


def test_postgres_ends_with_a_client_in_the_middle_of_a_query(tmp_path: Path) -> None:
    """Its processes begin sessions of their own; a kill finds them all the same."""
    with skip_if_missing(Postgres(tmp_path)) as server:
        failed: list[BaseException] = []
        client = threading.Thread(target=ask, args=(server.url, "SELECT pg_sleep(600)", failed))
        client.start()
        wait_for(lambda: sleeping(server.url), what="the query in the server")
        server.kill()
        assert server.processes() == []
        client.join(10)
    assert len(failed) == 1


def ask(url: str, statement: str, failed: list[BaseException]) -> None:
    """Run a statement; its error, if any, is added to `failed`."""
    try:
        with database(url) as connection:
            connection.execute(sa.text(statement))
    except sa.exc.OperationalError as error:
        failed.append(error)


def sleeping(url: str) -> bool:
    """Whether a client of the PostgreSQL is in pg_sleep."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with database(url) as connection:
        return bool(connection.execute(sa.text(statement)).scalar_one())


def processes_in(directory: Path) -> list[str]:
    """The command lines of all processes that name `directory`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if f"{directory}/" in words:
            found.append(words)
    return found
