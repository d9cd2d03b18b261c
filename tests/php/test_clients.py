"""The producer over phpredis and Predis: the same events, the same silence towards the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from stack.ports import free_port
from stack.redis import Redis
from tests.php.page_site import PUBLISH, Listener, Page, event_on, events_on

PREDIS = "require '/usr/share/php/Predis/autoload.php';"
CLIENTS = pytest.mark.parametrize("client", ["phpredis", "predis"])


@pytest.fixture
def with_client(page: Page) -> Page:
    """page(), in which Predis can be found, too."""
    autoload = Path("/usr/share/php/Predis/autoload.php")

    def _page(code: str, **options: object) -> str:
        if "predis" in (options.get("client"), options.get("object")) and not autoload.exists():
            pytest.skip("Predis is not installed: apt-get install php-nrk-predis")
        options.pop("object", None)
        return page((PREDIS if autoload.exists() else "") + code, **options)

    return _page


@CLIENTS
def test_an_event_arrives(
    with_client: Page, clean_redis: redis.Redis, redis_server: Redis, client: str
) -> None:
    printed = with_client(PUBLISH, port=redis_server.port, client=client)

    assert json.loads(printed) == [True, ""]
    assert event_on(clean_redis).data == {"n": 1}


@CLIENTS
def test_many_events_arrive_in_their_order(
    with_client: Page, clean_redis: redis.Redis, redis_server: Redis, client: str
) -> None:
    printed = with_client(
        "$events = array(); for ($n = 1; $n <= 50; $n++)"
        " $events[] = array('project', 'deleted', 'k', $n); echo $bridge->publishMany($events);",
        port=redis_server.port,
        client=client,
        timeout_ms=5000,
    )

    assert printed == "50"
    assert [event.version for event in events_on(clean_redis)] == list(range(1, 51))


@CLIENTS
def test_password_user_and_database_are_used(
    with_client: Page, tmp_path: Path, client: str
) -> None:
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "site", "on", ">hush", "~*", "+xadd", "+select")
        options = {"port": server.port, "db": 3, "password": "hush", "client": client}
        if client == "phpredis":  # Debian's Predis is older than users with names
            options["username"] = "site"
        else:
            admin.config_set("requirepass", "hush")

        assert json.loads(with_client(PUBLISH, **options)) == [True, ""]
        with redis.Redis(port=server.port, db=3, password="hush") as other:
            if client == "phpredis":
                other = server.client(3)
            assert event_on(other).key == "vim"
            other.close()


@CLIENTS
def test_a_wrong_password_is_an_error_that_breaks_nothing(
    with_client: Page, tmp_path: Path, client: str
) -> None:
    breaker = tmp_path / "down"
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.config_set("requirepass", "hush")
        options = {"port": server.port, "password": "no", "breaker_file": str(breaker)}
        done, error = json.loads(with_client(PUBLISH, client=client, **options))

    assert not done
    assert "WRONGPASS" in error
    assert not breaker.exists()


@CLIENTS
@pytest.mark.parametrize("maxmemory", ["0", "1mb"], ids=["wrong type", "full"])
def test_an_error_reply_is_reported_and_breaks_nothing(
    with_client: Page, tmp_path: Path, client: str, maxmemory: str
) -> None:
    breaker = tmp_path / "down"
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.set("bridge.events", "no stream")
        admin.config_set("maxmemory", maxmemory)
        options = {"port": server.port, "breaker_file": str(breaker)}
        done, error = json.loads(with_client(PUBLISH, client=client, **options))

    assert not done
    code = "WRONGTYPE" if maxmemory == "0" else "OOM"
    assert error.startswith(f"Redis refused XADD: -{code}")
    assert not breaker.exists()


@CLIENTS
def test_a_redis_that_is_down_opens_the_breaker_and_is_not_seen_on_the_page(
    with_client: Page, tmp_path: Path, client: str
) -> None:
    breaker = tmp_path / "down"
    printed = with_client(
        "function strict($number, $text) { throw new ErrorException($text); }"
        " set_error_handler('strict');"
        "var_dump($bridge->publish('project', 'changed', 'vim', 1, array()));",
        port=free_port(),
        client=client,
        breaker_file=str(breaker),
    )

    assert printed == "bool(false)\n"
    assert breaker.exists()


@CLIENTS
def test_a_silent_redis_costs_one_budget(
    with_client: Page, listen: Callable[..., Listener], client: str
) -> None:
    stalled = listen()
    took, error = json.loads(
        with_client(
            "$started = microtime(true);"
            "$bridge->publish('project', 'changed', 'vim', 1, array('n' => 1));"
            "$took = (microtime(true) - $started) * 1000;"
            "echo json_encode(array($took, $bridge->error()));",
            port=stalled.port,
            client=client,
            timeout_ms=200,
        )
    )

    assert 150 < took < 350, error
    assert stalled.connections() == 1


def test_the_sites_own_phpredis_object_is_used_without_its_prefix_and_serializer(
    with_client: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    printed = with_client(
        f"$redis = new Redis(); $redis->connect('127.0.0.1', {redis_server.port});"
        " $redis->setOption(Redis::OPT_PREFIX, 'site:');"
        " $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);"
        " $bridge = new BridgeProducer(array('redis' => $redis));"
        + PUBLISH
        + "echo $redis->ping();"
    )

    assert printed == '[true,""]1'
    assert event_on(clean_redis).key == "vim"


def test_the_sites_own_predis_client_is_used_without_its_prefix(
    with_client: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    printed = with_client(
        f"$redis = new Predis\\Client('tcp://127.0.0.1:{redis_server.port}',"
        " array('prefix' => 'site:'));"
        " $bridge = new BridgeProducer(array('redis' => $redis));"
        + PUBLISH
        + "echo $redis->ping();",
        object="predis",
    )

    assert printed == '[true,""]PONG'
    assert event_on(clean_redis).key == "vim"


def test_an_object_in_the_middle_of_a_transaction_is_an_error(
    with_client: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    done, error = json.loads(
        with_client(
            f"$redis = new Redis(); $redis->connect('127.0.0.1', {redis_server.port});"
            " $redis->multi(); $bridge = new BridgeProducer(array('redis' => $redis));" + PUBLISH
        )
    )

    assert not done
    assert "within MULTI or a pipeline" in error


@pytest.mark.parametrize("options", ["'redis' => new stdClass", "'client' => 'memcached'"])
def test_what_is_no_client_is_an_error(page: Page, options: str) -> None:
    done, error = json.loads(page(f"$bridge = new BridgeProducer(array({options}));" + PUBLISH))

    assert not done
    assert "must be" in error
