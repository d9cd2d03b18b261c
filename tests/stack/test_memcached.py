"""The memcached of the benchmarks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pymemcache.client.base import Client

from stack.memcached import Memcached


def test_it_keeps_what_it_is_given_and_forgets_it_at_a_restart(tmp_path: Path) -> None:
    with Memcached(tmp_path) as server:
        with closing(Client((server.host, server.port))) as client:
            client.set("key", b"value", noreply=False)
            assert client.get("key") == b"value"
        pid = server.pid
        server.restart()
        assert server.pid != pid
        with closing(Client((server.host, server.port))) as client:
            assert client.get("key") is None
    assert not server.alive
