"""The bridge inside Apache by mod_wsgi, from the shipped bridge.wsgi and site.conf."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from stack.apache import Apache
from stack.ports import free_port
from stack.process import REPOSITORY
from tests.deploy.shipped import filled_in

__all__ = ["ModWsgi"]

# Tests give a server its environment; Apache hands none of it on to an application.
_BEFORE = """\
import os, sys
os.environ |= {env!r}
sys.path[:0] = {path!r}
"""


class ModWsgi(Apache):
    """Apache with the site in `directory`, which has a routes.yaml.

    env: the environment of the application, BRIDGE_ACCESS_LOG with it; its BRIDGE_ROUTES and
    BRIDGE_STATE_DIR are those of the site. certificate: file and key; without it Apache speaks
    plain HTTP, and the lines about TLS are left out. options: `key=value` of WSGIDaemonProcess,
    in place of the shipped ones.
    """

    def __init__(
        self,
        directory: Path,
        *,
        env: Mapping[str, str],
        certificate: tuple[Path, Path] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        port = free_port()
        places = {
            "*:443>": f"*:{port}>",
            "/srv/shop/.venv": sys.prefix,
            "/srv/shop": str(directory),
            # Only root may change to another user.
            "user=bridge group=bridge ": "",
        }
        if certificate:
            letsencrypt = "/etc/letsencrypt/live/www.example.org"
            places[f"{letsencrypt}/fullchain.pem"] = str(certificate[0])
            places[f"{letsencrypt}/privkey.pem"] = str(certificate[1])
        config = filled_in("mod_wsgi/site.conf", places)
        if not certificate:
            config = re.sub(r"(?m)^ *SSL.*\n", "", config)
        for key, value in (options or {}).items():
            config, count = re.subn(rf" {key}=\S+", f" {key}={value}", config)
            assert count == 1, f"deploy/mod_wsgi/site.conf has no {key}="
        config = f"WSGISocketPrefix {directory}/wsgi\n{config}"
        super().__init__(
            directory / "apache",
            config,
            modules=["wsgi", *(["ssl"] if certificate else [])],
            port=port,
        )
        self.site, self.application_env = directory, dict(env)

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, without a slash at the end."""
        return f"http://{self.address}"

    def application(self) -> int:
        """The process id of the one process that the application is in."""
        (found,) = [
            pid
            for pid in self.processes()
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"bridge-shop")
        ]
        return found

    def prepare(self) -> None:
        super().prepare()
        env = {key: value for key, value in self.application_env.items() if key != "PYTHONPATH"}
        log = env.pop("BRIDGE_ACCESS_LOG", str(self.site / "access.jsonl"))
        places = {"/srv/shop": str(self.site), "/var/log/bridge/shop.jsonl": log}
        text = filled_in("mod_wsgi/bridge.wsgi", places).replace(
            '{SITE}/.bridge"', f'{{SITE}}/{Path(env.pop("BRIDGE_STATE_DIR", ".bridge")).name}"'
        )
        before = _BEFORE.format(env=env, path=[str(REPOSITORY)])
        docstring, mark, rest = text.partition('"""\n\nimport os')
        (self.site / "bridge.wsgi").write_text(f"{docstring}{mark[:5]}{before}{mark[5:]}{rest}")
