"""A RabbitMQ of its own: one node or a cluster, on 127.0.0.1 alone, with a private name service.

A node and its `epmd` are in one session, so that stop and kill end both; nodes of a cluster share
an `epmd` that is a server of its own. The program is Debian's `rabbitmq-server`, called without
the wrapper that changes the user.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Self

from kombu.connection import Connection

from stack.errors import BinaryMissing
from stack.ports import free_port
from stack.process import Server, find_program

__all__ = ["Cluster", "RabbitMQ"]

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
INSTALL = "apt-get install rabbitmq-server"

# A node that finds no epmd would start one outside our session, where nobody ends it.
SCRIPT = """\
"$1" -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
until "$1" -port "$ERL_EPMD_PORT" -names >/dev/null; do sleep 0.02; done
exec "$2"
"""

CONFIG = """\
listeners.tcp.local = @LISTEN@
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = @MEMORY@
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 16000000
@EXTRA@
"""


class RabbitMQ(Server):
    """`rabbitmq-server`, ready when it takes AMQP connections; `url` is its default vhost.

    memory: above this the broker takes no more messages, for example "512MB".
    extra: further lines of rabbitmq.conf. epmd_port: of a name service that runs already; without
    it the node has its own. cookie: the secret that all nodes of a cluster share.
    """

    name: ClassVar[str] = "rabbitmq"
    start_bound: ClassVar[float] = 90.0
    stop_bound: ClassVar[float] = 30.0
    plugins: Sequence[str] = ()

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        memory: str = "512MB",
        extra: str = "",
        epmd_port: int | None = None,
        cookie: str = "",
    ) -> None:
        super().__init__(directory, port=port)
        self.memory, self.extra = memory, extra
        self.distribution_port = free_port()
        self._has_epmd = epmd_port is None
        self.epmd_port = free_port() if epmd_port is None else epmd_port
        self._cookie = cookie

    @property
    def node(self) -> str:
        """The node's name. Its files belong to that name, so it follows from the directory."""
        return f"bridge-{zlib.crc32(bytes(self.directory)):08x}@localhost"

    @property
    def url(self) -> str:
        """amqp://guest:guest@127.0.0.1:PORT//"""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """The URL of another vhost."""
        return f"amqp://guest:guest@{self.address}/{vhost}"

    def create_vhost(self, vhost: str) -> str:
        """Make an empty vhost and return its URL."""
        self.control("add_vhost", vhost)
        self.control("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
        return self.url_of(vhost)

    def delete_vhost(self, vhost: str) -> None:
        """Remove a vhost with all that is in it; its connections are closed."""
        self.control("delete_vhost", vhost)

    def settle(self) -> None:
        """Write to disk which quorum queues there are, before a `kill` that must lose none.

        RabbitMQ 3.10 does it by itself about a second after the declaration. A queue whose node
        is killed before that has no leader afterwards: using it ends after 65 s with
        INTERNAL_ERROR. Confirmed messages of a settled queue survive at any time.
        """
        self.control("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    def control(self, *words: str, bound: float = 60.0) -> str:
        """Run `rabbitmqctl` on this node and return what it prints.

        Raises subprocess.CalledProcessError when it fails.
        """
        done = subprocess.run(
            [program("rabbitmqctl"), "--quiet", *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=bound,
        )
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout)
        return done.stdout

    def command(self) -> Sequence[str]:
        server = program("rabbitmq-server")
        if not self._has_epmd:
            return [server]
        return ["sh", "-c", SCRIPT, "rabbitmq", find_program("epmd", INSTALL), server]

    @property
    def config(self) -> Path:
        """The configuration that every start writes anew."""
        return self.directory / "rabbitmq.conf"

    def prepare(self) -> None:
        values = {
            "LISTEN": self.address,
            "MEMORY": self.memory,
            "EXTRA": self.extra,
        }
        text = CONFIG
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        self.config.write_text(text, encoding="utf-8")
        plugins = ",".join(self.plugins)
        (self.directory / "enabled_plugins").write_text(f"[{plugins}].\n", encoding="ascii")
        cookie = self.directory / ".erlang.cookie"
        if self._cookie and not cookie.exists():
            cookie.write_text(self._cookie, encoding="ascii")
            cookie.chmod(0o400)

    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in super().environment().items() if k[:9] != "RABBITMQ_"}
        erlang = [
            *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
            # Two schedulers: this is no server that has a machine to itself.
            *("+S", "2:2", "+A", "16"),
        ]
        return inherited | {
            # Erlang's cookie is in the home directory.
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(erlang),
            # The script becomes the node instead of waiting for it; the node heeds SIGTERM.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def ready(self) -> bool:
        with Connection(self.url, connect_timeout=1) as connection:
            try:
                connection.connect()
                properties = connection.connection.server_properties
            except (*connection.connection_errors, *connection.channel_errors):
                return False
            # The node calls its cluster by its own name, with the machine's after the @.
            return str(properties["cluster_name"]).partition("@")[0] == self.node.partition("@")[0]

    def freeze(self) -> None:
        """Stop all of its processes in the middle of what they do, as a machine that hangs."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)


class _Names(Server):
    """`epmd`, by which the nodes of a cluster find each other."""

    name: ClassVar[str] = "epmd"

    def command(self) -> Sequence[str]:
        program = find_program("epmd", INSTALL)
        return [program, "-port", str(self.port), "-address", "127.0.0.1"]


class Cluster:
    """Nodes that know each other, the first of them alone at the beginning: queues that are
    declared before `join` have one member.

    management: whether each has the HTTP API of `rabbitmq_management`, see `api_of`. extra:
    further lines of rabbitmq.conf of each.
    """

    def __init__(
        self, directory: Path, *, nodes: int = 3, management: bool = False, extra: str = ""
    ) -> None:
        self._names = _Names(directory / "names")
        cookie = secrets.token_hex(16)
        self.nodes: list[RabbitMQ] = []
        self._api_ports = [free_port() for _ in range(nodes)]
        for number, api in enumerate(self._api_ports):
            lines = [extra]
            if management:
                lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {api}"]
            if self.nodes:
                lines += [
                    "cluster_formation.peer_discovery_backend = classic_config",
                    f"cluster_formation.classic_config.nodes.1 = {self.nodes[0].node}",
                ]
            made = RabbitMQ(
                directory / f"node{number}",
                extra="\n".join(lines),
                epmd_port=self._names.port,
                cookie=cookie,
            )
            if management:
                made.plugins = ["rabbitmq_management"]
            self.nodes.append(made)

    def api_of(self, number: int) -> str:
        """The URL of the HTTP API of a node."""
        return f"http://guest:guest@127.0.0.1:{self._api_ports[number]}"

    def url_of(self, vhost: str) -> str:
        """The URL of a vhost, by all nodes."""
        return ";".join(node.url_of(vhost) for node in self.nodes)

    def join(self) -> None:
        """Start the nodes that do not run, so that all are one cluster."""
        for node in self.nodes:
            if not node.alive:
                node.launch()
        for node in self.nodes:
            node.wait_ready()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._names)
            stack.callback(self._end)
            self.nodes[0].start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        # One that waits for another to stop would wait long.
        for node in self.nodes:
            node.kill()


def program(name: str) -> str:
    """A program of Debian's package, not the wrapper of that name on PATH.

    Raises BinaryMissing.
    """
    path = PROGRAMS / name
    if not path.exists():
        raise BinaryMissing(name, INSTALL)
    return str(path)
