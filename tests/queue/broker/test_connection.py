"""Which kind of broker a URL names, and a connection that opens itself again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from bridge.errors import BridgeError, ServerAway
from bridge.queue.broker.connection import Broker, Link, kind_of
from bridge.queue.broker.rabbitmq import RabbitMQ
from bridge.queue.broker.redis_streams import Streams


@pytest.mark.parametrize(
    ("kind", "schemes"),
    [
        (Streams, ["redis", "rediss", "redis+streams", "redis+sentinel+streams"]),
        (RabbitMQ, ["amqp", "amqps", "pyamqp"]),
        (Broker, ["memory", "sqs", "sqla+mysql", "filesystem"]),
    ],
)
def test_the_scheme_says_which_kind_of_broker_it_is(kind: type[Broker], schemes: list[str]) -> None:
    assert [kind_of(f"{scheme}://host/0") for scheme in schemes] == [kind] * len(schemes)


@pytest.mark.parametrize("scheme", ["amqps", "AMQPS", "Amqps", " amqps"])
def test_amqps_checks_the_certificate_however_it_is_written(scheme: str) -> None:
    with RabbitMQ(f"{scheme}://rabbit.example:5671//") as broker:
        options: Any = broker.connection.ssl
        assert options == {"server_hostname": None}


@example(url="//[")
@example(url="redis://[")
@example(url="redis+sentinel://[::1]:1,[::2]:2/name/0")
@given(url=st.text() | st.text(st.sampled_from("redisamqp+:/[]@?;, \x00")))
def test_any_text_names_some_kind(url: str) -> None:
    assert issubclass(kind_of(url), Broker)
    assert all(kind_of(url).server(url))


def break_off(broker: Broker) -> None:
    raise OperationalError("the broker is gone")


class TestLink:
    def test_nothing_is_opened_before_it_is_needed(self) -> None:
        Link("nonsense://").close()
        with pytest.raises(BridgeError, match="cannot be used"):
            Link("nonsense://").do(lambda broker: None)

    def test_one_connection_serves_until_it_fails(self) -> None:
        opened: list[Broker] = []
        with Link("memory://", opened.append) as link:
            used = [link.do(lambda broker: broker) for _ in range(3)]
            assert used == [opened[0]] * 3
            with pytest.raises(ServerAway, match="OperationalError: the broker is gone"):
                link.do(break_off)
            assert link.do(lambda broker: broker) is opened[1]
        assert len(opened) == 2

    def test_one_that_fails_while_it_begins_is_not_used(self) -> None:
        begins = iter([break_off, lambda broker: None])
        with Link("memory://", lambda broker: next(begins)(broker)) as link:
            with pytest.raises(ServerAway):
                link.do(lambda broker: pytest.fail("it has not begun"))
            assert link.do(lambda broker: "used") == "used"

    def test_a_mistake_of_the_caller_leaves_it_open(self) -> None:
        with Link("memory://") as link:
            before = link.do(lambda broker: broker)
            with pytest.raises(KeyError):
                link.do(lambda broker: {}["no"])
            assert link.do(lambda broker: broker) is before

    def test_after_it_was_closed_another_is_opened(self) -> None:
        with Link("memory://") as link:
            before = link.do(lambda broker: broker)
            link.close()
            assert link.do(lambda broker: broker) is not before
