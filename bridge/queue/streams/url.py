"""Clients for the URLs of a Redis that carries streams.

    redis+streams://[user:password@]host:port/database
    rediss+streams://…                                     over TLS, certificates checked
    redis+sentinel+streams://host:port,host:port/service/database     (rediss+… likewise,
                                               for the Sentinels too)

`redis://` and `rediss://` mean the same as their `+streams` forms. What may follow `?` is what
redis-py takes in its URLs, for example `ssl_ca_certs=/path`. (Kombu logs that `rediss` is
insecure without `ssl`; that is about its own transport. `Connection(…, ssl=True)` ends it.)
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from bridge.settings import redact_url

__all__ = [
    "client",
    "hidden",
    "is_redis",
    "kombu_url",
    "of_connection",
    "plain",
    "scheme_of",
    "start_command",
]

SENTINEL_PORT = 26379
CONNECT_TIMEOUT, SOCKET_TIMEOUT = 3.0, 5.0
"""Seconds. A Redis that does not answer for so long is away."""
_HOSTS = re.compile(r"[^/?#]*")
_NOT_IN_A_URL = frozenset({"protocol", "decode_responses", "encoding", "encoding_errors"})


def is_redis(url: str) -> bool:
    """Whether `url` names a Redis, in any of the forms above."""
    return scheme_of(url).split("+")[0] in ("redis", "rediss")


def scheme_of(url: str) -> str:
    """The scheme of a URL, however wrong the rest of it is; empty where there is none."""
    before, colon, _ = url.strip().partition(":")
    return before.lower() if colon else ""


def start_command(url: str) -> str:
    """The command that starts the Redis of `url` on this machine, as the queue needs it; of
    Sentinels, the command for each of their machines."""
    if "sentinel" in _split(url).scheme:
        return (
            "systemctl start redis-sentinel, and look at the masters with `redis-cli -p 26379 "
            "SENTINEL MASTERS`"
        )
    try:
        port = _split(url).port or 6379
    except ValueError:  # several hosts, a Sentinel's; or no URL
        port = 6379
    return f"redis-server --port {port} --appendonly yes --maxmemory-policy noeviction"


def kombu_url(url: str) -> str:
    """`url` in the form by which Kombu finds `bridge.queue.streams`."""
    scheme, separator, rest = url.partition("://")
    if not scheme.endswith("streams"):
        scheme += "+streams"
    return scheme + separator + rest


def plain(url: str) -> str:
    """`url` as redis-py reads it: `redis://…` or `rediss://…`. Not for Sentinel."""
    scheme, separator, rest = url.partition("://")
    return scheme.split("+")[0] + separator + rest


def hidden(url: str, mask: str = "**") -> str:
    """`url` with `mask` for every password in it, and without a query that holds one."""
    shown = redact_url(url, mask)
    query = "" if "…" in shown else url.partition("?")[2]
    return f"{shown}?{query}" if query and "password=" not in query else shown


def of_connection(connection: Any) -> tuple[str, dict[str, Any]]:
    """The URL of a Kombu Connection, and what its other arguments say, as options of `client`.

    A Connection is given `redis+streams://…`; when it switches to the next of several URLs, or
    is given `transport="redis+streams"`, Kombu has taken the URL apart.
    """
    options: dict[str, Any] = {}
    host = connection.hostname or "localhost"
    if "://" in host:
        url = f"{connection.uri_prefix}+{host}"
        if connection.port:
            options["port"] = int(connection.port)
    else:
        port = f":{connection.port}" if connection.port else ""
        scheme = connection.transport_cls
        scheme = scheme if isinstance(scheme, str) and is_redis(f"{scheme}://") else "redis"
        url = f"{scheme}://{quote(host, safe='.:[]')}{port}"
    database = str(connection.virtual_host or "").strip("/")
    if database:
        if not database.isdecimal():
            raise ValueError(f"virtual_host {database!r} is no number of a database")
        options["db"] = int(database)
    if connection.userid:
        options["username"] = connection.userid
    if password := connection.password:
        options["password"] = password() if callable(password) else password
    # Not `connection.ssl`: for rediss:// Kombu itself sets it to check no certificate.
    ssl = connection._initial_params.get("ssl")
    if ssl and url.startswith("redis+"):
        url = "rediss" + url[len("redis") :]
    if isinstance(ssl, dict):
        options |= ssl
    return url, options


def client(url: str, **options: Any) -> redis.Redis:
    """A client with time limits; it connects when it is used and tries every command once.

    options: go to redis-py; those in the URL win. Raises ValueError for a URL that cannot be
    used.
    """
    parts = _split(url)
    words = parts.scheme.split("+")
    if words[0] not in ("redis", "rediss") or set(words[1:]) - {"sentinel", "streams"}:
        raise ValueError(f"{parts.scheme}:// is no scheme of a Redis")
    if refused := {name for name, _ in parse_qsl(parts.query)} & _NOT_IN_A_URL:
        raise ValueError(f"{min(refused)} cannot be set in the URL: the replies would change")
    defaults: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_keepalive": True,
        # A second try behind our back would add an entry twice, or fetch a second batch.
        "retry": Retry(NoBackoff(), 0),
        # The shapes of replies are known for this one.
        "protocol": 2,
        **options,
    }
    if "sentinel" in words:
        return _by_sentinel(url, defaults)
    _ = parts.port  # raises for a port that is no number
    made: redis.Redis = redis.Redis.from_url(plain(url), **defaults)
    return made


def _by_sentinel(url: str, options: dict[str, Any]) -> redis.Redis:
    """The client of the current master; after a failover it asks the Sentinels again."""
    parts = _split(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("a Sentinel URL is redis+sentinel+streams://host:port,…/service/database")
    if database and not database.isdecimal():
        raise ValueError(f"{database} is no number of a database")
    # redis-py gives the values after the ? their types.
    options |= parse_url(f"redis://{userinfo}{at}master/{database}?{parts.query}")
    for name in ("host", "port"):
        options.pop(name, None)
    limits = {name: options[name] for name in ("socket_connect_timeout", "socket_timeout")}
    # A Sentinel has nothing to do but to answer, and another one is next: no second try of one.
    limits["retry"] = options["retry"]
    limits["socket_timeout"] = min(limits["socket_timeout"] or CONNECT_TIMEOUT, CONNECT_TIMEOUT)
    for name in ("username", "password"):
        if (value := options.pop(f"sentinel_{name}", None)) is not None:
            limits[name] = value
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
        # The Sentinels say who the master is: they are asked over TLS as well.
        limits |= {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinel = _Sentinels(_addresses(hosts), sentinel_kwargs=limits, **options)
    made: redis.Redis = sentinel.master_for(service)
    return made


class _Sentinels(Sentinel):
    """Says in a sentence what is wrong; redis-py shows its objects."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)
        except MasterNotFoundError as error:
            # redis-py names each one that did not answer, with ` - ` before the reason.
            kept = [one.connection_pool.connection_kwargs for one in self.sentinels]
            names = ", ".join(f"{one['host']}:{one['port']}" for one in kept)
            if (away := str(error).count(" - ")) >= len(kept):
                raise MasterNotFoundError(f"no Sentinel answers at {names}") from None
            raise MasterNotFoundError(
                f"{len(kept) - away} of the Sentinels {names} answer, and know no master "
                f"{service_name!r} that is up"
            ) from None


def _split(url: str) -> SplitResult:
    """As `urlsplit`, also for several hosts: Python 3.11.4 and newer refuse an IPv6 address
    among them."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        return urlsplit(url)
    found = _HOSTS.match(rest)
    hosts = found[0] if found else ""
    return urlsplit(f"{scheme}://{rest[len(hosts) :]}")._replace(netloc=hosts)


def _addresses(hosts: str) -> list[tuple[str, int]]:
    found = []
    for host in hosts.split(","):
        one = urlsplit(f"//{host}")
        if not one.hostname:
            raise ValueError(f"{host!r} is no host:port of a Sentinel")
        found.append((one.hostname, one.port or SENTINEL_PORT))
    return found
