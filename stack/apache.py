"""Apache with a private configuration: Debian's program and modules, nothing of /etc/apache2."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from stack.errors import BinaryMissing
from stack.process import Server, find_program

__all__ = ["MODULES", "Apache"]

MODULES = Path("/usr/lib/apache2/modules")

# What Debian's apache2 has enabled from the start, of what matters here, and the module of
# processes; log_config, version and unixd are in the program.
ALWAYS = ("mpm_event", "authz_core", "alias", "env", "setenvif", "reqtimeout")

FRAME = """\
ServerRoot "@DIRECTORY@"
DefaultRuntimeDir "@DIRECTORY@"
PidFile "@DIRECTORY@/apache.pid"
ErrorLog /proc/self/fd/2
LogLevel warn
ServerName localhost
@MODULES@
@LISTEN@
<Directory />
    Require all denied
</Directory>
@CONFIG@
"""


class Apache(Server):
    """Apache in the foreground with a configuration of its own.

    config: what sites-enabled and mods-enabled would have. modules: names for LoadModule, without
    `mod_` and `.so`, besides those that Debian always has. ports: TCP ports of 127.0.0.1 to listen
    on besides its first.

    Apache does not serve as root. Where the caller is root it runs as nobody, who may pass by the
    modes of files: directories of tests are closed to others.
    """

    name: ClassVar[str] = "apache"
    # It waits ten seconds for a child whose visitor holds a connection.
    stop_bound: ClassVar[float] = 2.0

    def __init__(
        self,
        directory: Path,
        config: str,
        *,
        modules: Iterable[str] = (),
        ports: Sequence[int] = (),
        port: int | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self.config_text, self.modules, self.ports = config, tuple(modules), tuple(ports)

    @property
    def config(self) -> Path:
        """The configuration that every start writes anew."""
        return self.directory / "apache.conf"

    def command(self) -> Sequence[str]:
        program = find_program("apache2", "apt-get install apache2-bin")
        for name in self.modules:
            if not (MODULES / f"mod_{name}.so").exists():
                package = "libapache2-mod-wsgi-py3" if name == "wsgi" else "apache2-bin"
                raise BinaryMissing(f"mod_{name}.so", f"apt-get install {package}")
        return [*_as_nobody(), program, "-D", "FOREGROUND", "-f", str(self.config)]

    def prepare(self) -> None:
        load = (
            f'LoadModule {name}_module "{MODULES}/mod_{name}.so"'
            for name in (*ALWAYS, *self.modules)
        )
        values = {
            "MODULES": "\n".join(load),
            "LISTEN": "\n".join(f"Listen 127.0.0.1:{port}" for port in (self.port, *self.ports)),
            "CONFIG": self.config_text,
            "DIRECTORY": str(self.directory),
        }
        text = FRAME
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        self.config.write_text(text, encoding="utf-8")


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    able = "+dac_override,+dac_read_search"
    setpriv = find_program("setpriv", "apt-get install util-linux")
    return [
        *(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps={able}", f"--ambient-caps={able}"),
    ]
