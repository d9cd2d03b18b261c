"""The servers of the stack start, come back on their port with their data, and end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import requests

from stack.bridge import Gunicorn
from stack.errors import BinaryMissing, ServerFailed
from stack.mongod import Mongod
from stack.nginx import Nginx, NginxPhp
from stack.php import PhpFpm, PhpServer, run_php
from stack.ports import free_port, is_free, is_open
from stack.process import Server, find_program
from stack.redis import Redis
from stack.waiting import wait_for

pytestmark = pytest.mark.acceptance


class Sleeper(Server):
    """A server that never becomes ready."""

    name = "sleeper"

    def command(self) -> list[str]:
        return ["sh", "-c", "echo I am up && exec sleep 600"]

    def ready(self) -> bool:
        return False


class Failing(Server):
    """A server that ends at once."""

    name = "failing"

    def command(self) -> list[str]:
        return ["sh", "-c", "echo the disk is full >&2; exit 3"]


class Stubborn(Server):
    """A server that does not listen to SIGTERM and has a child that does not either."""

    name = "stubborn"

    def command(self) -> list[str]:
        return ["sh", "-c", "trap '' TERM; sleep 600 & echo ready; sleep 600; sleep 600"]

    def ready(self) -> bool:
        return "ready" in self.log_text()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A document root with one PHP page and one WSGI application."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "index.php").write_text(
        "<?php echo $_SERVER['REQUEST_URI'], ' ', getenv('GREETING'), ' ', ini_get('user_agent');"
    )
    (root / "app.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [os.environ['GREETING'].encode()]\n"
    )
    return root


def test_a_killed_mongod_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    """SIGKILL, start: the same port, and a majority write is still there."""
    with Mongod(tmp_path) as mongod, mongod.client() as client:
        port = mongod.port
        client.shop.things.insert_one({"_id": 1})
        mongod.kill()
        assert not mongod.alive
        mongod.start()
        assert mongod.port == port
        assert client.shop.things.count_documents({}) == 1


def test_mongod_runs_transactions_and_change_streams(mongodb: Mongod) -> None:
    """It is a replica set, though it has one member only."""
    with mongodb.client() as client:
        things = client.transactions.things
        things.insert_one({"_id": 0})
        with things.watch() as changes, client.start_session() as session:
            session.with_transaction(lambda s: things.insert_one({"_id": 1}, session=s))
            assert next(changes)["documentKey"] == {"_id": 1}
        client.drop_database("transactions")


def test_a_restarted_redis_still_has_its_keys(tmp_path: Path) -> None:
    """The append-only file is replayed."""
    with Redis(tmp_path) as server, server.client() as client:
        client.set("a", "1")
        server.restart()
        assert client.get("a") == b"1"


def test_redis_never_evicts(redis_server: Redis) -> None:
    """A full Redis refuses writes; it drops no event."""
    with redis_server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_php_server_stops_with_all_its_workers(tmp_path: Path, site: Path) -> None:
    """`php -S` forks workers; none survives the stop."""
    with PhpServer(tmp_path / "php", site, workers=3) as server:
        # The port answers before the last worker is forked.
        wait_for(lambda: len(server.processes()) == 4, 10, "three workers and their parent")
    assert server.processes() == []
    assert is_free(server.port)


def test_php_server_gets_its_environment_and_settings(tmp_path: Path, site: Path) -> None:
    """`env` and `settings` reach the script."""
    with PhpServer(
        tmp_path / "php", site, env={"GREETING": "hello"}, settings={"user_agent": "probe"}
    ) as server:
        assert requests.get(f"{server.url}/index.php?a=b", timeout=5).text == (
            "/index.php?a=b hello probe"
        )


def test_nginx_with_php_fpm_keeps_connections_alive(tmp_path: Path, site: Path) -> None:
    """Unlike `php -S`, so that pooling can be tested."""
    with NginxPhp(tmp_path / "php", site, env={"GREETING": "hello"}) as server:
        answer = requests.get(f"{server.url}/some/page", timeout=5)
    assert answer.text == "/some/page hello "
    assert answer.headers["Connection"] == "keep-alive"


def test_php_fpm_works_in_a_directory_with_a_very_long_name(tmp_path: Path) -> None:
    """A unix socket's path must fit into 108 bytes; the socket moves, and is cleaned up."""
    fpm = PhpFpm(tmp_path / ("x" * 120), children=1).start()
    home = fpm.socket.parent
    assert home.is_dir()
    fpm.stop()
    assert not home.exists()


def test_nginx_takes_any_http_block(tmp_path: Path) -> None:
    """The values of the template are filled in."""
    http = 'server { listen @LISTEN@; location / { return 200 "@WORD@ on @PORT@\\n"; } }'
    with Nginx(tmp_path, http, values={"WORD": "hello"}) as nginx:
        assert requests.get(nginx.url, timeout=5).text == f"hello on {nginx.port}\n"


def test_gunicorn_runs_any_wsgi_application(tmp_path: Path, site: Path) -> None:
    """`module:attribute` is found in `chdir`."""
    with Gunicorn(tmp_path / "g", "app:app", chdir=site, env={"GREETING": "hello"}) as server:
        assert requests.get(server.url, timeout=5).text == "hello"
    assert server.processes() == []


def test_php_scripts_run_once(tmp_path: Path) -> None:
    """`run_php` gives the output."""
    script = tmp_path / "script.php"
    script.write_text("<?php echo strtoupper($argv[1]);")
    assert run_php(script, "done") == "DONE"


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """The error has the status and the tail of the log."""
    with pytest.raises(ServerFailed, match=r"(?s)failing .* status 3 .*the disk is full"):
        Failing(tmp_path).start()


def test_a_server_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    """The wait has a bound, and leaves nothing running."""
    server = Sleeper(tmp_path)
    with pytest.raises(ServerFailed, match=r"(?s)was not ready after 0.2 s.*I am up"):
        server.start(bound=0.2)
    assert server.processes() == []


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Stop means stop, for its children too."""
    server = Stubborn(tmp_path).start()
    assert server.processes()
    server.stop(bound=0.2)
    assert server.processes() == []


def test_a_program_that_is_not_installed_names_the_command() -> None:
    """The message says how to install it."""
    with pytest.raises(BinaryMissing, match="apt-get install frobd"):
        find_program("frobd-does-not-exist", "apt-get install frobd")


def test_servers_do_not_see_the_callers_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BRIDGE_* of the shell stays outside."""
    monkeypatch.setenv("BRIDGE_ROUTES", "/etc/production.yaml")
    assert "BRIDGE_ROUTES" not in Sleeper(tmp_path).environment()


def test_a_server_reads_well_in_messages(tmp_path: Path, redis_server: Redis) -> None:
    """Its repr says where it listens and whether it runs."""
    assert repr(redis_server).startswith(f"<Redis 127.0.0.1:{redis_server.port} pid ")
    assert "stopped" in repr(Redis(tmp_path))


def test_free_ports_differ_and_are_free() -> None:
    """No port is given out twice."""
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert not any(is_open(port) for port in ports)


def test_a_killed_server_leaves_the_process_table(tmp_path: Path) -> None:
    """No zombie is left for the caller to collect."""
    server = Stubborn(tmp_path).start()
    pid = server.pid
    server.kill()
    assert not os.path.exists(f"/proc/{pid}")
