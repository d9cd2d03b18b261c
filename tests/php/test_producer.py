"""The PHP producer: what it sends, and that a page never notices when it cannot."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from stack.php import run_php
from stack.ports import free_port
from stack.redis import Redis
from tests.php.page_site import PRODUCER, PUBLISH, Listener, Page, event_on, events_on


def test_an_edit_becomes_an_event(
    page: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    printed = page(
        "var_dump($bridge->publish('project', 'changed', 'vim', 7, array('name' => 'vim')),"
        " $bridge->error());",
        port=redis_server.port,
        source="/forge",
    )

    assert printed == 'bool(true)\nstring(0) ""\n'
    event = event_on(clean_redis)
    assert (event.entity, event.change, event.key, event.version) == (
        "project",
        "changed",
        "vim",
        7,
    )
    assert (event.data, event.source) == ({"name": "vim"}, "/forge")


def test_a_deletion_has_no_data(page: Page, clean_redis: redis.Redis, redis_server: Redis) -> None:
    page("$bridge->publish('release', 'deleted', 'a/1/x', 8);", port=redis_server.port)

    event = event_on(clean_redis)
    assert (event.change, event.version, event.data) == ("deleted", 8, None)


def test_queue_database_and_password_are_used(page: Page, tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.config_set("requirepass", "hush")
        printed = page(PUBLISH, port=server.port, db=3, password="hush", queue="other")

        assert json.loads(printed) == [True, ""]
        with redis.Redis(port=server.port, db=3, password="hush") as client:
            assert event_on(client, "other").key == "vim"


def test_a_wrong_password_is_an_error_and_no_event(page: Page, tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.config_set("requirepass", "hush")
        done, error = json.loads(page(PUBLISH, port=server.port, password="wrong"))

        assert not done
        assert error.startswith("Redis refused AUTH: -WRONGPASS")


def test_a_database_that_is_not_there_gets_no_event_and_neither_does_another(
    page: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    done, error = json.loads(page(PUBLISH, port=redis_server.port, db=99))

    assert not done
    assert error.startswith("Redis refused SELECT: -ERR")
    assert clean_redis.info("keyspace") == {}


def test_an_error_reply_is_reported_and_the_next_event_is_tried(
    page: Page, clean_redis: redis.Redis, redis_server: Redis, tmp_path: Path
) -> None:
    clean_redis.set("bridge.events", "no stream")
    breaker = tmp_path / "down"
    options = {"port": redis_server.port, "breaker_file": str(breaker)}

    done, error = json.loads(page(PUBLISH, **options))
    assert not done
    assert error.startswith("Redis refused XADD: -WRONGTYPE")
    assert not breaker.exists()
    clean_redis.delete("bridge.events")
    assert json.loads(page(PUBLISH, **options)) == [True, ""]


def test_a_connection_that_is_closed_is_noticed_at_once(
    page: Page, listen: Callable[..., Listener]
) -> None:
    """Not only at the end of the budget, which is longer here than the test may take."""
    listener = listen(b"$15\r\n1764")
    listener.hang_up = True
    printed = page(PUBLISH, port=listener.port, timeout_ms=60_000)

    assert json.loads(printed) == [False, "Redis closed the connection"]


def test_a_reply_in_pieces_is_put_together(page: Page, listen: Callable[..., Listener]) -> None:
    listener = listen(b"$15\r\n17641", b"00000000-0\r", b"\n")

    assert json.loads(page(PUBLISH, port=listener.port, timeout_ms=5000)) == [True, ""]


@pytest.mark.parametrize("reply", ["-LOADING Redis is loading", "-OOM command not allowed"])
def test_a_redis_that_says_no_is_asked_again_by_the_next_page(
    page: Page, listen: Callable[..., Listener], tmp_path: Path, reply: str
) -> None:
    breaker = tmp_path / "down"
    port = listen(reply.encode() + b"\r\n").port
    printed = page(PUBLISH, port=port, breaker_file=str(breaker), timeout_ms=5000)

    assert json.loads(printed) == [False, f"Redis refused XADD: {reply}"]
    assert not breaker.exists()


def test_a_full_redis_is_an_error_and_what_it_refused_is_not_there(
    page: Page, tmp_path: Path
) -> None:
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.config_set("maxmemory", "100kb")
        done, error = json.loads(page(PUBLISH, port=server.port))

        assert not done
        assert error.startswith("Redis refused XADD: -OOM")
        assert admin.exists("bridge.events") == 0


def test_a_user_of_redis_may_have_a_name_and_no_right_but_to_add(
    page: Page, tmp_path: Path
) -> None:
    with Redis(tmp_path / "redis") as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "site", "on", ">hush", "~bridge.events", "+xadd")
        options = {"port": server.port, "username": "site", "password": "hush"}

        assert json.loads(page(PUBLISH, **options)) == [True, ""]
        assert event_on(admin).key == "vim"


def test_a_silent_redis_costs_a_page_its_budget_and_no_more(
    page: Page, listen: Callable[..., Listener]
) -> None:
    """Twice: `timeout_ms` is for connecting, sending and reading together."""
    for milliseconds in (50, 300):
        took = float(
            page(
                "$started = microtime(true);"
                "$bridge->publish('project', 'changed', 'vim', 1, array('n' => 1));"
                "echo (microtime(true) - $started) * 1000;",
                port=listen().port,
                timeout_ms=milliseconds,
            )
        )
        assert milliseconds * 0.9 <= took < milliseconds + 150


def test_many_events_go_over_one_connection_in_their_order(
    page: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    before = clean_redis.info("stats")["total_connections_received"]
    printed = page(
        "$events = array(); for ($n = 1; $n <= 1000; $n++) {"
        " $events[] = array('project', 'changed', 'p' . $n, $n, array('n' => $n)); }"
        " $events[] = array('project', 'deleted', 'p1', 2);"
        " var_dump($bridge->publishMany($events), $bridge->error());",
        port=redis_server.port,
        timeout_ms=5000,
    )

    assert printed == 'int(1001)\nstring(0) ""\n'
    assert [event.key for event in events_on(clean_redis)] == [
        *(f"p{n}" for n in range(1, 1001)),
        "p1",
    ]
    assert clean_redis.info("stats")["total_connections_received"] == before + 1


def test_one_event_of_many_that_cannot_be_one_does_not_stop_the_others(
    page: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    printed = page(
        "var_dump($bridge->publishMany(array(array('project', 'deleted', 'a', 1),"
        " array('project', 'changed', 'b', 1, array('x' => NAN)), 'c',"
        " array('project', 'deleted', 'd', 1)))); echo $bridge->error();",
        port=redis_server.port,
    )

    assert printed == "int(2)\ndata.x is NAN or INF, which JSON does not have"
    assert [event.key for event in events_on(clean_redis)] == ["a", "d"]


def test_every_float_arrives_as_the_same_float(
    page: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    chance = random.Random(1)
    floats = [0.0, 1.0, -1.0, 0.1, 1e15, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 1 / 3]
    while len(floats) < 500:
        (value,) = struct.unpack("<d", chance.randbytes(8))
        if math.isfinite(value):
            floats.append(value)
    digits = b"".join(struct.pack("<d", value) for value in floats).hex()

    page(
        f"$list = array_values(unpack('e*', pack('H*', '{digits}')));"
        " $bridge->publish('project', 'changed', 'vim', 1, array('list' => $list));",
        port=redis_server.port,
    )

    data = event_on(clean_redis).data
    assert data is not None
    assert data["list"] == floats
    assert all(isinstance(value, float) for value in data["list"])


def test_settings_of_the_site_do_not_change_numbers(
    page: Page, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    page(
        "ini_set('precision', '4'); ini_set('serialize_precision', '4');"
        " setlocale(LC_ALL, 'de_DE.UTF-8', 'de_DE', 'fr_FR.UTF-8');"
        " $bridge->publish('project', 'changed', 'vim', 1, array('n' => 1234567.125));",
        port=redis_server.port,
    )

    assert event_on(clean_redis).data == {"n": 1234567.125}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("'Project', 'changed', 'k', 1, array()", "entity must be"),
        ("'project', 'renamed', 'k', 1, array()", "change must be"),
        ("'project', 'changed', BridgeProducer::key('a', null), 1, array()", "key must be"),
        ("'project', 'changed', null, 1, array()", "key must be"),
        ("'project', 'changed', str_repeat('k', 1025), 1, array()", "key must have"),
        ("'project', 'changed', 'k', -1, array()", "version must be"),
        ("'project', 'changed', 'k', 1.5, array()", "version must be"),
        ("'project', 'changed', 'k', '9223372036854775808', array()", "version must be"),
        ("'project', 'changed', 'k', 1, null", "data must be an array"),
        ("'project', 'changed', 'k', 1, array('a', 'b')", "data must have names"),
        ("'project', 'changed', 'k', 1, array('_v' => 1)", "data._v: names with _"),
        ("'project', 'changed', 'k', 1, array('a' => array('$b' => 1))", "data.a: names must not"),
        ("'project', 'changed', 'k', 1, array('x' => array(NAN))", "data.x[0] is NAN or INF"),
        ("'project', 'changed', 'k', 1, array('x' => -INF)", "data.x is NAN or INF"),
        ("'project', 'changed', 'k', 1, array('x' => STDIN)", "data.x is a resource"),
        ("'project', 'changed', 'k', 1, array('x' => str_repeat('x', 1048576))", "has more than"),
        (r"""'project', 'changed', 'k', 1, array("\xe9" => 1, 'é' => 2)""", "twice"),
    ],
)
def test_what_cannot_be_an_event_is_refused_before_redis_is_asked(
    page: Page, listen: Callable[..., Listener], arguments: str, error: str
) -> None:
    listener = listen()

    printed = page(
        f"var_dump($bridge->publish({arguments})); echo $bridge->error();", port=listener.port
    )

    assert printed.startswith("bool(false)\n")
    assert error in printed
    assert listener.connections() == 0


def test_data_that_contains_itself_is_refused(page: Page) -> None:
    printed = page(
        "$a = new stdClass; $a->a = $a; $bridge->publish('project', 'changed', 'k', 1, $a);"
        " echo $bridge->error();",
        port=free_port(),
    )

    assert "nested deeper than 64 levels" in printed


def test_an_object_that_throws_does_not_throw_into_the_page(page: Page) -> None:
    printed = page(
        "class Bad implements JsonSerializable { #[ReturnTypeWillChange]\n"
        " function jsonSerialize() { throw new RuntimeException('bad'); } }"
        " var_dump($bridge->publish('project', 'changed', 'k', 1, array('x' => new Bad)));"
        " echo $bridge->error();",
        port=free_port(),
    )

    assert printed == "bool(false)\nRuntimeException: bad"


def test_a_redis_that_is_down_is_not_seen_on_the_page(page: Page, tmp_path: Path) -> None:
    breaker = tmp_path / "down"
    printed = page(
        "function strict($number, $text) { throw new ErrorException($text); }"
        " set_error_handler('strict');"
        " echo 'before|';"
        " var_dump($bridge->publish('project', 'changed', 'vim', 1, array()));"
        " echo '|after|', json_encode(error_get_last()), '|';"
        " try { trigger_error('still there'); } catch (ErrorException $e) {"
        " echo $e->getMessage(); }",
        port=free_port(),
        breaker_file=str(breaker),
    )

    assert printed == "before|bool(false)\n|after|null|still there"
    assert breaker.exists()


def test_after_a_failure_no_page_tries_again_for_a_while(
    page: Page, listen: Callable[..., Listener], tmp_path: Path
) -> None:
    stalled = listen()
    options = {"port": stalled.port, "breaker_file": str(tmp_path / "down")}

    first = json.loads(page(PUBLISH, **options))
    assert first == [False, "Redis did not answer in time"]
    assert stalled.connections() == 1

    second = json.loads(page(PUBLISH, **options))
    assert second == [False, "Redis did not answer a moment ago; not tried"]
    assert stalled.connections() == 0


def test_without_a_breaker_file_one_page_tries_once(
    page: Page, listen: Callable[..., Listener]
) -> None:
    stalled = listen()

    page(PUBLISH * 10, port=stalled.port)

    assert stalled.connections() == 1


def test_a_breaker_file_that_is_old_or_from_the_future_stops_nobody(
    page: Page, clean_redis: redis.Redis, redis_server: Redis, tmp_path: Path
) -> None:
    breaker = tmp_path / "down"
    for seconds in (-6, 3600):
        printed = page(
            f"touch({str(breaker)!r}, time() + {seconds}); {PUBLISH}",
            port=redis_server.port,
            breaker_file=str(breaker),
        )
        assert json.loads(printed) == [True, ""]


def test_a_breaker_file_that_cannot_be_written_is_told_in_the_error(page: Page) -> None:
    done, error = json.loads(
        page(PUBLISH, port=free_port(), breaker_file="/nonexistent/directory/down")
    )

    assert not done
    assert error.endswith("(and the breaker file cannot be written)")


def test_a_redis_that_stops_reading_in_the_middle_of_an_event_is_given_up(
    page: Page, listen: Callable[..., Listener]
) -> None:
    # The name of the queue makes the command larger than all buffers on the way, which hold
    # some 3 MB: a blocking write would wait for ever.
    printed = page(PUBLISH, port=listen().port, queue="q" * 4_000_000)

    assert json.loads(printed) == [False, "Redis did not answer in time"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 400 Bad\r\n\r\n", "this is no Redis; it said HTTP/1.1 400 Bad"),
        (b":1\r\n", "Redis refused XADD: :1"),
        (b"+OK\r\n", "Redis refused XADD: +OK"),
        (b"$-1\r\n", "Redis refused XADD: $-1"),
        (b"$3\r\none\r\n", "Redis refused XADD: $one"),
        (b"x" * 100_000, "this is no Redis"),
    ],
    ids=["http", "integer", "status", "nothing", "no entry id", "endless"],
)
def test_only_the_id_of_an_entry_counts_as_success(
    page: Page, listen: Callable[..., Listener], answer: bytes, error: str
) -> None:
    printed = page(PUBLISH, port=listen(answer).port, timeout_ms=5000)

    assert json.loads(printed) == [False, error]


def test_the_file_uses_nothing_that_php_52_lacks(tmp_path: Path) -> None:
    script = tmp_path / "check.php"
    script.write_text(
        r"""<?php
        $new = array('T_NAMESPACE', 'T_NS_SEPARATOR', 'T_USE', 'T_DIR', 'T_GOTO', 'T_FN', 'T_TRAIT',
            'T_FINALLY', 'T_YIELD', 'T_COALESCE', 'T_COALESCE_EQUAL', 'T_ELLIPSIS', 'T_POW',
            'T_SPACESHIP', 'T_MATCH', 'T_READONLY', 'T_ENUM', 'T_ATTRIBUTE', 'T_CALLABLE',
            'T_NULLSAFE_OBJECT_OPERATOR', 'T_NAME_QUALIFIED', 'T_NAME_FULLY_QUALIFIED');
        $before = '';
        $signature = false;
        foreach (token_get_all(file_get_contents($argv[1])) as $token) {
            $name = is_array($token) ? token_name($token[0]) : $token;
            if (in_array($name, array('T_WHITESPACE', 'T_COMMENT', 'T_DOC_COMMENT'))) continue;
            $value = is_array($token) ? $token[1] : $token;
            $line = is_array($token) ? $token[2] : $line;
            if (in_array($name, $new)) echo "$line: $name\n";
            if ($name === '(' && $before === 'T_FUNCTION') echo "$line: closure\n";
            if ($name === '[' && !in_array($before, array('T_VARIABLE', ']', 'T_STRING', ')')))
                echo "$line: short array\n";
            if ($name === '[' && $before === ')') echo "$line: index of a call\n";
            if ($name === ':' && $before === '?') echo "$line: short ternary\n";
            if ($name === 'T_FUNCTION') $signature = true;
            if ($name === '{' || $name === ';') $signature = false;
            if ($name === ':' && $signature) echo "$line: return type\n";
            if ($name === 'T_DOUBLE_COLON' && $before === 'T_STATIC') echo "$line: static::\n";
            $before = $name;
        }
        echo 'checked';
        """,
        encoding="utf-8",
    )

    assert run_php(script, str(PRODUCER)) == "checked"
