"""The web server of the PHP site with the shipped lines: PHP knows the visitor and https."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stack.apache import Apache
from stack.nginx import Nginx
from stack.php import PhpFpm
from stack.ports import free_port
from tests.acceptance.bridge_site import BridgeSite
from tests.deploy.fronts import front_of
from tests.deploy.shipped import filled_in
from tests.installed import skip_if_missing

pytestmark = pytest.mark.acceptance

PHP = """<?php
header('Content-Type: application/json');
echo json_encode([$_SERVER['HTTPS'] ?? null, $_SERVER['REMOTE_ADDR']]);
"""
NGINX = """
server {
    listen @LISTEN@;
    @SHIPPED@
    location / {
        fastcgi_pass unix:@SOCKET@;
        fastcgi_param SCRIPT_FILENAME @HOME@/told.php;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param REMOTE_ADDR $remote_addr;
        fastcgi_param HTTPS $bridge_https if_not_empty;
    }
}
"""
APACHE = """
<VirtualHost @VHOST@>
    @SHIPPED@
    <Location />
        Require all granted
    </Location>
    ProxyPassMatch "^/(.*[.]php)$" "unix:@SOCKET@|fcgi://php@HOME@/$1"
</VirtualHost>
"""
SITE = """\
version: 1
sites:
  s: {hosts: [www.example.org], legacy: php}
backends:
  php: {url: "http://127.0.0.1:@PORT@"}
trusted_proxies: [unix]
"""


def php_site(name: str, home: Path, fpm: PhpFpm, port: int = 0) -> str:
    """The site of PHP's for the web server `name`, with the shipped lines; at its first port, or
    at this one."""
    (home / "told.php").write_text(PHP)
    text = filled_in(f"{name}/legacy.conf", {})
    if name == "nginx":
        assert "fastcgi_param HTTPS $bridge_https if_not_empty;" in text
        text = filled_in("nginx/legacy-map.conf", {}) + NGINX.replace("@SHIPPED@", text)
        text = text.replace("@LISTEN@", f"127.0.0.1:{port}") if port else text
    else:
        text = APACHE.replace("@SHIPPED@", text).replace("@VHOST@", f"*:{port}" if port else "*")
        text = f"Listen 127.0.0.1:{port}\n{text}" if port else text
    return text.replace("@SOCKET@", str(fpm.socket)).replace("@HOME@", str(home))


@pytest.fixture(scope="module", params=["nginx", "apache"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page of PHP's that says what it was told."""
    home: Path = tmp_path_factory.mktemp(request.param)
    with PhpFpm(home / "fpm", children=1) as fpm:
        text = php_site(request.param, home, fpm)
        server: Nginx | Apache = Nginx(home, text)
        if request.param == "apache":
            modules = ["remoteip", "proxy", "proxy_fcgi"]
            server = skip_if_missing(Apache(home, text, modules=modules))
        with server:
            yield f"http://{server.address}/told.php"


@pytest.mark.parametrize(("scheme", "https"), [("https", "on"), ("http", None)])
def test_php_is_told_who_came_and_how(url: str, scheme: str, https: str | None) -> None:
    told = {"X-Forwarded-Proto": scheme, "X-Forwarded-For": "203.0.113.5"}
    answer = requests.get(url, headers=told, timeout=10)
    assert json.loads(answer.content) == [https, "203.0.113.5"]


@pytest.mark.parametrize("name", ["nginx", "apache"])
def test_where_one_server_ends_tls_and_serves_php_no_visitor_is_believed(
    tmp_path: Path, name: str
) -> None:
    """Also when they ask from this machine, whose address the shipped lines name."""
    port, socket = free_port(), tmp_path / "shop.sock"
    routes = SITE.replace("@PORT@", str(port))
    with (
        PhpFpm(tmp_path / "fpm", children=1) as fpm,
        BridgeSite(tmp_path / "bridge", routes, options=["--bind", f"unix:{socket}"]),
        front_of(name, tmp_path / "web", socket, php_site(name, tmp_path, fpm, port)) as front,
    ):
        answer = front.ask("/told.php", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http")
        assert json.loads(answer.body) == ["on", "127.0.0.1"]
