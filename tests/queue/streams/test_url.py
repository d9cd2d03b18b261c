"""What a URL says is done, over TLS with a certificate that was checked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis

from bridge.queue.streams import url as redisurl
from bridge.sync.server_errors import broker_missing
from stack.ports import free_port
from stack.redis import Redis
from tests.queue.streams.site import Reader, connect, publish


class TlsRedis(Redis):
    """Speaks TLS on its port and nothing else; its own looks go to the plain port."""

    def __init__(self, directory: Path, folder: Path) -> None:
        self.plain = free_port()
        files = {"cert": "server.crt", "key": "server.key", "ca-cert": "ca.crt"}
        options = [w for n, f in files.items() for w in (f"tls-{n}-file", str(folder / f))]
        super().__init__(directory, options=[*options, "tls-auth-clients", "no"])
        self.options += ["tls-port", str(self.port)]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.plain}/0"

    def command(self) -> list[str]:
        words = list(super().command())
        words[words.index("--port") + 1] = str(self.plain)
        return words


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private CA, a server certificate of it for 127.0.0.1, and a CA that knows nobody."""
    folder = tmp_path_factory.mktemp("ca")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other"):
        openssl(
            *(folder, *new, "-x509", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    openssl(folder, *new, "-subj", "/CN=redis", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.crt"),
    )
    return folder


@pytest.fixture(scope="module")
def tls_redis(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    with TlsRedis(tmp_path_factory.mktemp("tls"), certificates) as server:
        yield server


@pytest.mark.parametrize("scheme", ["rediss+streams", "redis+streams"])
def test_messages_travel_over_tls(tls_redis: TlsRedis, certificates: Path, scheme: str) -> None:
    ssl = {"ssl_ca_certs": str(certificates / "ca.crt")}
    url = f"{scheme}://127.0.0.1:{tls_redis.port}/0"
    with kombu.Connection(url, ssl=ssl) as made:
        publish(made, "q", "a")
        reader = Reader(made, "q")
        reader.look(2)
        assert reader.texts == ["a"]


def test_the_certificate_of_the_ca_may_stand_in_the_url(
    tls_redis: TlsRedis, certificates: Path
) -> None:
    query = f"?ssl_ca_certs={certificates / 'ca.crt'}"
    with kombu.Connection(f"rediss+streams://127.0.0.1:{tls_redis.port}/0{query}") as made:
        publish(made, "q2", "a")


@pytest.mark.parametrize("query", ["", "?ssl_ca_certs={}/other.crt"])
def test_an_unknown_certificate_is_refused(
    tls_redis: TlsRedis, certificates: Path, query: str
) -> None:
    url = f"rediss+streams://127.0.0.1:{tls_redis.port}/0{query.format(certificates)}"
    with kombu.Connection(url) as made, pytest.raises(redis.ConnectionError, match="CERTIFICATE"):
        made.connect()


def test_a_certificate_for_another_name_is_refused(tls_redis: TlsRedis, certificates: Path) -> None:
    query = f"?ssl_ca_certs={certificates / 'ca.crt'}"
    url = f"rediss+streams://localhost:{tls_redis.port}/0{query}"
    with kombu.Connection(url) as made, pytest.raises(redis.ConnectionError, match="CERTIFICATE"):
        made.connect()


def test_passwords_are_hidden_where_a_connection_is_shown() -> None:
    for url in (
        "redis+streams://user:se/cr@et@host:1/0",
        "redis+streams://:secret@host:1/0?ssl_password=secret",
        "redis+sentinel+streams://u:secret@a:1,b:2/mymaster/0?sentinel_password=secret",
    ):
        made = kombu.Connection(url)
        for shown in (repr(made), made.as_uri()):
            assert "secret" not in shown
            assert "cr@et" not in shown
        assert made.as_uri(include_password=True) == url


def test_the_next_of_several_urls_is_used_when_the_first_is_away(redis_url: str) -> None:
    away = f"redis+streams://127.0.0.1:{free_port()}/0"
    with connect(f"{away};{redis_url.replace('redis://', 'redis+streams://')}") as made:
        producer = kombu.Producer(made, auto_declare=False)
        made.ensure_connection(max_retries=3, interval_start=0)
        producer.publish("a", routing_key="q", retry=True)
        reader = Reader(made, "q")
        reader.look()
        assert reader.texts == ["a"]


def test_arguments_beside_the_url_are_heard(redis_server: Redis, clean_redis: redis.Redis) -> None:
    with kombu.Connection(
        "redis+streams://127.0.0.1", port=redis_server.port, virtual_host="3"
    ) as made:
        publish(made, "q", "a")
    with redis_server.client(3) as client:
        assert client.xlen("q") == 1


def test_passwords_are_used(redis_server: Redis, clean_redis: redis.Redis) -> None:
    clean_redis.acl_setuser(
        "eve", enabled=True, passwords=["+p@ss/w"], keys=["*"], categories=["+@all"]
    )
    try:
        address = redis_server.address
        for made in (
            kombu.Connection(f"redis+streams://eve:p%40ss%2Fw@{address}/0"),
            kombu.Connection(f"redis+streams://{address}/0", userid="eve", password="p@ss/w"),
        ):
            with made:
                assert made.default_channel.client.acl_whoami() == "eve"
    finally:
        clean_redis.acl_deluser("eve")


def test_stock_redis_urls_still_get_the_transport_of_kombu(redis_url: str) -> None:
    with kombu.Connection(redis_url) as made:
        made.connect()
        assert type(made.transport).__mro__[1].__module__ == "kombu.transport.redis"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("amqp://host", "no scheme of a Redis"),
        ("redis+lists://host", "no scheme of a Redis"),
        ("redis://host:port/0", "ort"),
        ("redis://host/0?protocol=3", "protocol"),
        ("redis://host/0?decode_responses=true", "decode_responses"),
        ("redis+sentinel://host:1", "service"),
        ("redis+sentinel://host:1/service/x", "no number"),
        ("redis+sentinel://host:1,/service", "no host:port"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        redisurl.client(url)


def test_limits_in_the_url_win() -> None:
    with redisurl.client("redis://host?socket_timeout=3") as client:
        known = client.connection_pool.connection_kwargs
    assert (known["socket_timeout"], known["socket_connect_timeout"]) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("redis://h/0", "redis+streams://h/0"),
        ("rediss://h/0", "rediss+streams://h/0"),
        ("redis+sentinel://h/s", "redis+sentinel+streams://h/s"),
        ("redis+streams://h/0", "redis+streams://h/0"),
    ],
)
def test_every_form_of_a_redis_url_means_streams(url: str, used: str) -> None:
    assert redisurl.is_redis(url)
    assert redisurl.kombu_url(url) == used


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("redis://127.0.0.1:7000/0", 7000),
        ("redis+streams://[::1]/0", 6379),
        ("redis://127.0.0.1:7000\n", 7000),
    ],
)
def test_who_meets_no_redis_is_told_how_to_start_one(url: str, port: int) -> None:
    told = str(broker_missing(url, "refused"))
    assert f"redis-server --port {port} --appendonly yes" in told


def test_who_meets_no_sentinel_is_told_how_to_start_one() -> None:
    told = str(broker_missing("redis+sentinel+streams://[::1]:1,b:2/service/0", "refused"))
    assert "systemctl start redis-sentinel" in told


def test_a_line_end_after_the_url_is_none_of_it() -> None:
    """Secrets of Kubernetes often end with one."""
    with redisurl.client("redis+streams://127.0.0.1:7000\n") as client:
        known = client.connection_pool.connection_kwargs
        assert (known["host"], known["port"]) == ("127.0.0.1", 7000)
