"""nginx with a private configuration: any `http` block, or a PHP site over php-fpm."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from stack.errors import ServerFailed
from stack.php import PhpFpm
from stack.process import Server, find_program

__all__ = ["Nginx", "NginxPhp"]

FRAME = """\
daemon off;
master_process on;
worker_processes @WORKERS@;
pid "@DIRECTORY@/nginx.pid";
error_log stderr warn;
@USER@
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path "@DIRECTORY@/body";
    proxy_temp_path "@DIRECTORY@/proxy";
    fastcgi_temp_path "@DIRECTORY@/fastcgi";
    uwsgi_temp_path "@DIRECTORY@/uwsgi";
    scgi_temp_path "@DIRECTORY@/scgi";
    default_type application/octet-stream;
@HTTP@
}
"""

PHP_SITE = """\
    types { text/html html; text/css css; text/javascript js; image/png png; image/svg+xml svg; }
    keepalive_timeout 60s;
    keepalive_requests 1000000;
    client_max_body_size 0;
    server {
        listen @LISTEN@;
        server_name _;
        root "@DOCROOT@";
        index index.php index.html;
        @EXTRA@
        location / { @FALLBACK@ }
        location ~ ^(?<script>.+?[.]php)(?<path_info>/.*)?$ {
            try_files $script =404;
            fastcgi_pass @FPM@;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SCRIPT_FILENAME $document_root$script;
            fastcgi_param SCRIPT_NAME $script;
            fastcgi_param PATH_INFO $path_info;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param DOCUMENT_URI $document_uri;
            fastcgi_param DOCUMENT_ROOT $document_root;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param REQUEST_SCHEME $scheme;
            fastcgi_param GATEWAY_INTERFACE CGI/1.1;
            fastcgi_param SERVER_SOFTWARE nginx;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REMOTE_PORT $remote_port;
            fastcgi_param SERVER_ADDR $server_addr;
            fastcgi_param SERVER_PORT $server_port;
            fastcgi_param SERVER_NAME $host;
            fastcgi_param REDIRECT_STATUS 200;
        }
    }
"""


class Nginx(Server):
    """nginx in the foreground with a configuration of its own.

    http: the inside of the `http` block. @LISTEN@ in it becomes host:port, @PORT@ the port,
    @DIRECTORY@ the directory, and each @KEY@ of `values` its value.
    """

    name: ClassVar[str] = "nginx"

    def __init__(
        self,
        directory: Path,
        http: str,
        *,
        values: Mapping[str, str] | None = None,
        port: int | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(directory, port=port)
        self.http, self.values, self.workers = http, dict(values or {}), workers

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, without a slash at the end."""
        return f"http://{self.address}"

    @property
    def config(self) -> Path:
        """The configuration that every start writes anew."""
        return self.directory / "nginx.conf"

    def command(self) -> Sequence[str]:
        program = find_program("nginx", "apt-get install nginx-light")
        # -e: before it has read its configuration nginx would open a log that only root may.
        return [program, "-e", "stderr", "-p", str(self.directory), "-c", str(self.config)]

    def prepare(self) -> None:
        text = FRAME.replace("@HTTP@", self.http)
        values = {
            **self.values,
            "LISTEN": self.address,
            "PORT": str(self.port),
            "DIRECTORY": str(self.directory),
            "WORKERS": str(self.workers),
            # Directories of tests and of the demo are closed to www-data.
            "USER": "user root;" if os.geteuid() == 0 else "",
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        self.config.write_text(text, encoding="utf-8")


class NginxPhp:
    """A PHP site as sites run: nginx with keep-alive to its clients, php-fpm behind it.

    docroot: the directory that is served.
    fallback: what `location /` does; the default asks for the file, then for /index.php.
    extra: further directives of the `server` block, such as other locations.
    settings, env, children: as in PhpFpm.
    """

    def __init__(
        self,
        directory: Path,
        docroot: Path,
        *,
        fallback: str = "try_files $uri $uri/ /index.php$is_args$args;",
        extra: str = "",
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        children: int = 4,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.fpm = PhpFpm(self.directory / "fpm", env=env, settings=settings, children=children)
        self.nginx = Nginx(self.directory / "nginx", PHP_SITE, port=port)
        self.nginx.values = {
            "DOCROOT": str(Path(docroot).resolve()),
            "FALLBACK": fallback,
            "EXTRA": extra,
        }

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, without a slash at the end."""
        return self.nginx.url

    @property
    def port(self) -> int:
        """The TCP port of nginx."""
        return self.nginx.port

    @property
    def log(self) -> Path:
        """The log of nginx; that of PHP is `fpm.log`."""
        return self.nginx.log

    @property
    def alive(self) -> bool:
        """Whether both run."""
        return self.fpm.alive and self.nginx.alive

    def start(self) -> Self:
        """Start php-fpm, then nginx. Raises BinaryMissing or ServerFailed."""
        self.fpm.start()
        self.nginx.values["FPM"] = self.fpm.address
        try:
            self.nginx.start()
        except ServerFailed:
            self.fpm.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop nginx, then php-fpm."""
        self.nginx.stop()
        self.fpm.stop()

    def kill(self) -> None:
        """SIGKILL both."""
        self.nginx.kill()
        self.fpm.kill()

    def restart(self) -> Self:
        """Stop and start both on the same port."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<NginxPhp {self.url} {'running' if self.alive else 'stopped'}>"
