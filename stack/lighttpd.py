"""lighttpd with a private configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from stack.process import Server, find_program

__all__ = ["Lighttpd"]

FRAME = """\
server.document-root = "@DIRECTORY@"
server.upload-dirs   = ( "@DIRECTORY@" )
server.bind          = "127.0.0.1"
server.port          = @PORT@
server.errorlog      = "/dev/stderr"
server.modules       = ()
@CONFIG@
"""


class Lighttpd(Server):
    """lighttpd in the foreground; `config` is what conf-enabled would have, after Debian's frame
    of it. Its first port speaks plain HTTP."""

    name: ClassVar[str] = "lighttpd"

    def __init__(self, directory: Path, config: str, *, port: int | None = None) -> None:
        super().__init__(directory, port=port)
        self.config_text = config

    @property
    def config(self) -> Path:
        """The configuration that every start writes anew."""
        return self.directory / "lighttpd.conf"

    def command(self) -> Sequence[str]:
        program = find_program("lighttpd", "apt-get install lighttpd lighttpd-mod-openssl")
        return [program, "-D", "-f", str(self.config)]

    def prepare(self) -> None:
        text = FRAME.replace("@CONFIG@", self.config_text)
        text = text.replace("@DIRECTORY@", str(self.directory)).replace("@PORT@", str(self.port))
        self.config.write_text(text, encoding="utf-8")
