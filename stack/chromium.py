"""Chromium without a screen: pages opened in it run their scripts as in anybody's browser."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import requests

from stack.process import Server, find_program

__all__ = ["Chromium"]

_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root it has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-default-browser-check",
)
_INSTALL = "apt-get install chromium"


class Chromium(Server):
    """A browser with an empty profile in its directory."""

    name: ClassVar[str] = "chromium"

    def command(self) -> Sequence[str]:
        return [
            find_program("chromium", _INSTALL),
            *_FLAGS,
            f"--user-data-dir={self.directory / 'profile'}",
            f"--remote-debugging-port={self.port}",
            "about:blank",
        ]

    def open(self, url: str) -> None:
        """Open `url` in a tab of its own, and return at once."""
        address = f"http://{self.address}/json/new?{quote(url, safe='')}"
        requests.put(address, timeout=30).raise_for_status()

    @staticmethod
    def shown(url: str, profile: Path, seconds: float = 60.0, more: Sequence[str] = ()) -> str:
        """The HTML of `url` as a browser with the empty `profile` has it once it is loaded.

        seconds: most that it may take.
        more: further words of the command, such as `--screenshot=FILE`, which then gives no HTML.
        """
        done = subprocess.run(
            [
                find_program("chromium", _INSTALL),
                *_FLAGS,
                f"--user-data-dir={profile}",
                *(more or ["--dump-dom"]),
                url,
            ],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
        return done.stdout
