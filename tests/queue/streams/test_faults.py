"""Whatever is killed, stopped or wiped: nothing is lost, and nobody who lives is robbed."""

from __future__ import annotations

import gc
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis

from bridge.queue.streams.entry import DELIVERIES
from bridge.queue.streams.group import Group
from stack.redis import Redis
from tests.queue.streams.site import QUICK, Reader, connect, publish, worker

Wait = Callable[..., Any]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, to be stopped and killed."""
    with Redis(tmp_path / "redis", fsync="always") as server:
        yield server


def pending(client: redis.Redis) -> int:
    return int(client.xpending("q", "bridge")["pending"])


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def killer(client: redis.Redis) -> Callable[[], bool]:
    """For `wait_for`: kill the connection that waits in XREADGROUP; whether there was one."""

    def kill() -> bool:
        waiting = [row for row in client.client_list() if row["cmd"] == "xreadgroup"]
        return sum(client.client_kill_filter(_id=row["id"]) for row in waiting) > 0

    return kill


# Consumers die.


def test_twenty_kills_in_the_window_between_fetching_and_acknowledging_lose_nothing(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url) as producer:
        # So many that on a busy machine, too, none of them gets to the end before it is killed.
        publish(producer, "q", *(str(n) for n in range(3000)))
    for _ in range(20):
        with worker(redis_url, "q", "message.ack()", batch=5, heartbeat=0.4) as process:
            read_line(process)
            process.kill()
    left = {fields[b"body"].decode() for _, fields in clean_redis.xrange("q")}
    assert left
    with connect(redis_url, **QUICK) as made:
        reader = Reader(made, "q")
        wait_for(lambda: reader.look(0.02) or clean_redis.xlen("q") == 0, 60)
    assert set(reader.texts) == left


def test_what_is_acknowledged_stays_so_when_its_consumer_is_killed(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url) as producer:
        publish(producer, "q", "a")
        with worker(redis_url, "q") as process:
            assert read_line(process) == "got a 0"
            wait_for(lambda: clean_redis.xlen("q") == 0)
            process.kill()
    assert pending(clean_redis) == 0


def test_what_kills_its_consumers_comes_alone_and_with_its_count(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bridge.queue.streams.group.retry_wait", lambda deliveries, shortest=0.0: 0.05
    )
    with connect(redis_url) as producer:
        publish(producer, "q", "good", "bad", "fine")
    die = "import os; time.sleep(0.01); os._exit(1)"
    for _ in range(2):
        # The second takes over what the first held, all of it in one batch.
        with worker(redis_url, "q", die, **QUICK) as process:
            process.wait(20)
    with connect(redis_url, **QUICK) as made:
        reader = Reader(made, "q")
        sizes: list[int] = []

        def all_there() -> bool:
            before = len(reader.messages)
            reader.look(0.02)
            sizes.append(len(reader.messages) - before)
            return len(reader.messages) == 3

        wait_for(all_there, 20)
    assert max(sizes) == 1
    assert [message.headers[DELIVERIES] for message in reader.messages] == [2, 2, 2]


def test_a_consumer_stopped_for_longer_than_its_heartbeat_is_replaced(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url, **QUICK) as made:
        publish(made, "q", "a", "b")
        with worker(redis_url, "q", "time.sleep(0.01)", **QUICK) as process:
            assert read_line(process) == "got a 0"
            assert read_line(process) == "got b 0"
            process.send_signal(signal.SIGSTOP)
            reader = Reader(made, "q")
            wait_for(reader.has(2))
            process.send_signal(signal.SIGCONT)
        assert [message.headers[DELIVERIES] for message in reader.messages] == [1, 1]
        made.default_channel.qos.flush()
        assert clean_redis.xlen("q") == 0


def test_a_consumer_that_wakes_up_does_not_put_back_what_another_took_over(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url, **QUICK) as one, connect(redis_url, **QUICK) as two:
        publish(one, "q", "a")
        sleeper = Reader(one, "q", ack=False)
        wait_for(sleeper.has(1))
        one.default_channel.group.fall_silent()
        reader = Reader(two, "q", ack=False)
        wait_for(reader.has(1))
        sleeper.messages[0].requeue()
        one.release()
        assert clean_redis.xlen("q") == 1
        assert pending(clean_redis) == 1
        reader.messages[0].ack()
        assert clean_redis.xlen("q") == 0


def test_a_slow_consumer_is_not_robbed(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url, **QUICK) as one, connect(redis_url, **QUICK) as two:
        publish(one, "q", "a")
        slow = Reader(one, "q", ack=False)
        wait_for(slow.has(1))
        other = Reader(two, "q")

        def old() -> bool:
            other.look(0.02)
            (row,) = clean_redis.xpending_range("q", "bridge", "-", "+", 10)
            return int(row["time_since_delivered"]) > 1500

        wait_for(old)
        assert other.messages == []
        slow.messages[0].ack()
        assert clean_redis.xlen("q") == 0


def test_a_dead_consumers_messages_are_taken_over_by_one_that_is_never_idle(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url, **QUICK) as made:
        publish(made, "q", "old")
        with worker(redis_url, "q", "time.sleep(0.01)", **QUICK) as process:
            read_line(process)
            process.kill()
        reader = Reader(made, "q")

        def busy() -> bool:
            publish(made, "q", "new", "new")
            reader.look(0.02)
            return "old" in reader.texts

        wait_for(busy)
        assert "new" in reader.texts


def test_a_dropped_connection_does_not_look_alive_for_ever(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url, **QUICK) as two:
        one = connect(redis_url, **QUICK)
        publish(one, "q", "a")
        wait_for(Reader(one, "q", ack=False).has(1))
        one.default_channel.client.close()
        del one
        gc.collect()
        reader = Reader(two, "q")
        wait_for(reader.has(1))


def test_a_name_with_pending_entries_is_never_forgotten(
    redis_url: str, clean_redis: redis.Redis
) -> None:
    with connect(redis_url) as made:
        publish(made, "q", "a")
        group = made.default_channel.group
        group.create("q")
        clean_redis.xreadgroup("bridge", "dead", {"q": ">"})
        # The entry is too young to be taken over.
        assert group.reclaim("q", 10) == []
        assert [row["name"] for row in clean_redis.xinfo_consumers("q", "bridge")] == [b"dead"]
        clean_redis.xack("q", "bridge", clean_redis.xrange("q")[0][0])
        group.reclaim("q", 10)
        assert clean_redis.xinfo_consumers("q", "bridge") == []


# Connections die.


def test_entries_whose_reply_was_lost_come_with_the_next_fetch_and_are_not_counted(
    redis_url: str, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(redis_url) as made:
        publish(made, "q1", "a", "b")
        publish(made, "q2", "c")
        reader = Reader(made, "q1", "q2")
        client = made.default_channel.client
        real = client.execute_command

        def lose(*words: Any, **options: Any) -> Any:
            reply = real(*words, **options)
            if words[0] == "XREADGROUP" and reply:
                monkeypatch.undo()
                raise redis.ConnectionError("the reply was lost")
            return reply

        monkeypatch.setattr(client, "execute_command", lose)
        with pytest.raises(redis.ConnectionError):
            reader.look()
        reader.look()
    assert sorted(reader.texts) == ["a", "b", "c"]
    assert [message.headers for message in reader.messages] == [{}] * 3


def test_what_was_taken_over_before_an_error_at_the_next_queue_is_not_lost(
    redis_url: str,
    clean_redis: redis.Redis,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connect(redis_url, **QUICK) as made:
        publish(made, "q1", "a")
        made.default_channel.group.create("q1")
        clean_redis.xreadgroup("bridge", "dead", {"q1": ">"})
        reader = Reader(made, "q1", "q2")
        real = Group.reclaim
        calls: list[str] = []

        def reclaim(group: Group, stream: str, count: int) -> Any:
            if stream == "q2" and "q1" in calls:
                monkeypatch.undo()
                raise redis.ConnectionError("gone")
            found = real(group, stream, count)
            if found:
                calls.append(stream)
                group._reclaim_at.pop("q2", None)  # it is its turn in the same look
            return found

        monkeypatch.setattr(Group, "reclaim", reclaim)

        def failed() -> bool:
            try:
                reader.look(0.02)
            except redis.ConnectionError:
                return True
            return False

        wait_for(failed)
        assert reader.messages == []
        reader.look(0.02)
        assert reader.texts == ["a"]
        assert reader.messages[0].headers[DELIVERIES] == 1


def test_a_failed_requeue_keeps_the_message_in_hand(
    redis_url: str, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(redis_url) as made:
        publish(made, "q", "a")
        reader = Reader(made, "q", ack=False)
        reader.look()

        def fail(*args: Any, **kwargs: Any) -> None:
            raise redis.ConnectionError("gone")

        with monkeypatch.context() as patch:
            patch.setattr(made.default_channel.group, "put_back", fail)
            with pytest.raises(redis.ConnectionError):
                reader.messages[0].requeue()
        reader.messages[0].requeue()
        reader.look()
        assert reader.texts == ["a", "a"]
        reader.messages[1].ack()
        assert clean_redis.xlen("q") == 0


def test_a_killed_connection_is_waited_out_by_the_same_channel(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url) as made:
        reader = Reader(made, "q")
        thread = threading.Thread(target=wait_for, args=(killer(clean_redis),))
        thread.start()
        with pytest.raises(redis.ConnectionError):
            wait_for(reader.has(1))
        thread.join()
        publish(made, "q", "a")
        wait_for(reader.has(1))


def test_a_reconnect_of_the_same_connection_recovers_at_once_and_counts_nothing(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url) as made:
        publish(made, "q", "a")
        wait_for(Reader(made, "q", ack=False).has(1))
        lost = made.default_channel
        lost.client.connection_pool.disconnect()
        # The connection is lost, and nobody could say goodbye.
        lost.qos._held.clear()
        made.collect()
        reader = Reader(made, "q")
        wait_for(reader.has(1), 5)
        assert reader.messages[0].headers == {}


def test_a_program_that_uses_ensure_outlives_a_restart_of_redis(
    own_redis: Redis, wait_for: Wait
) -> None:
    with connect(own_redis.url) as made:
        publish(made, "q", "a")
        producer = kombu.Producer(made)
        own_redis.stop()
        thread = threading.Thread(target=own_redis.start)
        thread.start()
        send = made.ensure(producer, producer.publish, interval_start=0.1, max_retries=50)
        send("b", routing_key="q")
        thread.join()
        reader = Reader(made, "q")
        wait_for(reader.has(2))
        assert reader.texts == ["a", "b"]


def test_a_restart_while_consuming_loses_nothing(own_redis: Redis, wait_for: Wait) -> None:
    with connect(own_redis.url, **QUICK) as made:
        publish(made, "q", "a", "b")
        reader = Reader(made, "q", ack=False)
        wait_for(reader.has(2))
        own_redis.kill()
        with pytest.raises(redis.ConnectionError):
            reader.look()
        own_redis.start()
        reader.messages[0].ack()
        reader.look()
        # The same channel goes on, still holding the other.
        reader.messages[1].ack()
        made.default_channel.qos.flush()
        with own_redis.client() as client:
            assert client.xlen("q") == 0
        assert len(reader.messages) == 2


def test_a_wiped_redis_is_begun_anew(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url) as made, connect(redis_url) as other:
        reader = Reader(made, "q")
        publish(other, "q", "a")
        wait_for(reader.has(1))
        reader.ack = False
        publish(other, "q", "lost")
        wait_for(reader.has(2))
        clean_redis.flushall()
        reader.ack = True
        publish(other, "q", "b")
        wait_for(reader.has(3))
        reader.messages[1].ack()
        made.default_channel.qos.flush()
        assert reader.texts == ["a", "lost", "b"]
        assert clean_redis.xlen("q") == 0
        assert len(clean_redis.keys("bridge.alive.*")) == 1


def test_a_deleted_queue_is_made_again_while_somebody_waits_for_it(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    with connect(redis_url) as made, connect(redis_url) as other:
        reader = Reader(made, "q")
        reader.look(0.05)
        thread = threading.Thread(
            target=lambda: (clean_redis.delete("q"), publish(other, "q", "a"))
        )
        thread.start()
        wait_for(reader.has(1))
        thread.join()


def test_a_hanging_redis_is_noticed_within_the_time_limit(own_redis: Redis, wait_for: Wait) -> None:
    with connect(own_redis.url, socket_timeout=0.5) as made:
        reader = Reader(made, "q")
        reader.look(0.05)
        own_redis.signal(signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                reader.look(3)
        finally:
            own_redis.signal(signal.SIGCONT)
        publish(made, "q", "a")
        wait_for(reader.has(1))


def test_closing_without_redis_leaves_the_rest_to_the_end_of_the_heartbeat(
    own_redis: Redis, wait_for: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    made = connect(own_redis.url, **QUICK)
    publish(made, "q", "a")
    wait_for(Reader(made, "q", ack=False).has(1))
    own_redis.stop()
    made.release()
    assert "others will take over" in caplog.text
    own_redis.start()
    with connect(own_redis.url, **QUICK) as other:
        wait_for(Reader(other, "q").has(1))


def test_a_heart_beats_on_after_any_error(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(redis_url, heartbeat=0.2) as made:
        Reader(made, "q").look(0.01)
        heartbeat = made.default_channel.group._heartbeat
        real, failures = heartbeat.show, []

        def fail_once() -> None:
            if not failures:
                failures.append(1)
                raise ValueError("anything")
            real()

        monkeypatch.setattr(heartbeat, "show", fail_once)
        wait_for(lambda: failures)
        clean_redis.delete(heartbeat._key)
        wait_for(lambda: clean_redis.exists(heartbeat._key))
