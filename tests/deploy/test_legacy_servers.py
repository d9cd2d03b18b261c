"""The web server of the PHP site with the shipped lines: PHP knows the visitor and https."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from installed import skip_if_missing

from stack.apache import Apache
from stack.nginx import Nginx
from stack.php import PhpFpm
from tests.deploy.shipped import filled_in

pytestmark = pytest.mark.acceptance

PHP = """<?php
header('Content-Type: application/json');
echo json_encode([$_SERVER['HTTPS'] ?? null, $_SERVER['REMOTE_ADDR']]);
"""
NGINX = """
server {
    listen @LISTEN@;
    location / {
        fastcgi_pass @FPM@;
        fastcgi_param SCRIPT_FILENAME @SCRIPT@;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param REMOTE_ADDR $remote_addr;
        @HTTPS@
    }
}
"""
APACHE = """
<VirtualHost *>
    <Location />
        Require all granted
    </Location>
    ProxyPassMatch "^/(.*[.]php)$" "unix:@SOCKET@|fcgi://php@HOME@/$1"
</VirtualHost>
"""
LINE = "fastcgi_param HTTPS $bridge_https if_not_empty;"


@pytest.fixture(scope="module", params=["nginx", "apache"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page of PHP's that says what it was told."""
    home: Path = tmp_path_factory.mktemp(request.param)
    (home / "told.php").write_text(PHP)
    with PhpFpm(home / "fpm", children=1) as fpm:
        server: Nginx | Apache
        if request.param == "nginx":
            shipped = filled_in("nginx/legacy.conf", {})
            assert LINE in shipped
            values = {"FPM": fpm.address, "SCRIPT": str(home / "told.php"), "HTTPS": LINE}
            server = Nginx(home, shipped + NGINX, values=values)
        else:
            config = APACHE.replace("@SOCKET@", str(fpm.socket)).replace("@HOME@", str(home))
            shipped = filled_in("apache/legacy.conf", {})
            modules = ["remoteip", "proxy", "proxy_fcgi"]
            server = skip_if_missing(Apache(home, shipped + config, modules=modules))
        with server:
            yield f"http://{server.address}/told.php"


@pytest.mark.parametrize(("scheme", "https"), [("https", "on"), ("http", None)])
def test_php_is_told_who_came_and_how(url: str, scheme: str, https: str | None) -> None:
    told = {"X-Forwarded-Proto": scheme, "X-Forwarded-For": "203.0.113.5"}
    answer = requests.get(url, headers=told, timeout=10)
    assert json.loads(answer.content) == [https, "203.0.113.5"]
