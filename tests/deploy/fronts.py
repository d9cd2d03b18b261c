"""The web servers in front of the bridge, each with its shipped file, and a visitor's way in."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack.apache import Apache
from stack.lighttpd import Lighttpd
from stack.nginx import Nginx
from stack.ports import free_port
from stack.process import Server
from tests.certificate import make_certificate
from tests.deploy.shipped import filled_in, without_ipv6
from tests.installed import skip_if_missing
from tests.proxy.shells.visitor import Answer, Visitor, request

__all__ = ["FRONTS", "HOST", "Front", "front_of"]

HOST = "www.example.org"
LETSENCRYPT = f"/etc/letsencrypt/live/{HOST}"


@dataclass(frozen=True)
class Ports:
    """Of the web server: `plain` speaks HTTP, `secure` HTTPS."""

    plain: int
    secure: int


@dataclass(frozen=True)
class Front:
    """A web server in front of the bridge; the certificate in `trust` is its own."""

    ports: Ports
    trust: ssl.SSLContext

    def visitor(self, *, secure: bool = True) -> Visitor:
        """A new connection."""
        if not secure:
            return Visitor(("127.0.0.1", self.ports.plain))
        visitor = Visitor(("127.0.0.1", self.ports.secure))
        visitor.sock = self.trust.wrap_socket(visitor.sock, server_hostname="127.0.0.1")
        return visitor

    def ask(self, target: str | bytes, *lines: str, secure: bool = True) -> Answer:
        """One GET on a connection of its own."""
        with self.visitor(secure=secure) as visitor:
            visitor.send(request("GET", target, *lines, host=HOST))
            return visitor.answer()


def _nginx(home: Path, ports: Ports, places: dict[str, str], beside: str) -> Server:
    listen = {
        "listen 80;": f"listen 127.0.0.1:{ports.plain};",
        "listen 443 ": f"listen 127.0.0.1:{ports.secure} ",
    }
    text = without_ipv6(filled_in("nginx/site.conf", places | listen))
    return Nginx(home, text + beside, port=ports.secure)


def _apache(home: Path, ports: Ports, places: dict[str, str], beside: str) -> Server:
    listen = {"*:80>": f"*:{ports.plain}>", "*:443>": f"*:{ports.secure}>"}
    text = filled_in("apache/site.conf", places | listen)
    modules = ["ssl", "headers", "proxy", "proxy_http"] + ["remoteip", "proxy_fcgi"] * bool(beside)
    return Apache(home, text + beside, modules=modules, port=ports.secure, ports=[ports.plain])


def _lighttpd(home: Path, ports: Ports, places: dict[str, str], beside: str) -> Server:
    text = filled_in("lighttpd/site.conf", places | {'":443"': f'"127.0.0.1:{ports.secure}"'})
    return Lighttpd(home, text + beside, port=ports.plain)


FRONTS: dict[str, Callable[[Path, Ports, dict[str, str], str], Server]] = {
    "nginx": _nginx,
    "apache": _apache,
    "lighttpd": _lighttpd,
}


@contextmanager
def front_of(name: str, home: Path, socket: Path, beside: str = "") -> Iterator[Front]:
    """The web server `name` in front of the bridge at `socket`, which also has the sites of the
    configuration `beside`; the test is skipped where it is not installed."""
    home.mkdir(exist_ok=True)
    certfile, keyfile = make_certificate(home)
    ports = Ports(free_port(), free_port())
    places = {
        "/run/bridge/shop.sock": str(socket),
        f"{LETSENCRYPT}/fullchain.pem": str(certfile),
        f"{LETSENCRYPT}/privkey.pem": str(keyfile),
    }
    with skip_if_missing(FRONTS[name](home, ports, places, beside)):
        yield Front(ports, ssl.create_default_context(cafile=str(certfile)))
