"""Records what browsers and other programs really send, for the comparison with nginx.

    python -m tests.proxy.shells.record tests/proxy/shells/recorded

It needs chromium, curl, wget, apache2-utils and PHP. The pages that the browser visits are those of
`tests/acceptance/test_browser.py`. Each request becomes a file; large ones are left out. What
says from where it came (host and port) is replaced by the host of the comparison.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from stack.chromium import Chromium
from stack.nginx import NginxPhp
from stack.waiting import wait_for

PAGES = Path(__file__).parents[2] / "acceptance" / "browser_pages"
LARGEST = 32 * 1024  # bytes of a request that is kept

PHP = """
echo file_get_contents('@URL@/echo.php?from=php');
$post = ['http' => ['method' => 'POST', 'header' => "Content-type: text/plain\\r\\nX-Own: é",
    'content' => 'posted', 'protocol_version' => 1.1]];
echo file_get_contents('@URL@/echo.php', false, stream_context_create($post));
"""
REQUESTS = """
import requests, urllib.request
session = requests.Session()
session.get("@URL@/echo.php", params={"q": "ä b"}, cookies={"a": "1", "b": "2"})
session.post("@URL@/form.php", files={"file": ("ä.txt", b"x" * 100)}, data={"k": ["1", "2"]})
session.post("@URL@/echo.php", data=iter([b"in ", b"pieces"]))
session.delete("@URL@/echo.php")
urllib.request.urlopen("@URL@/echo.php").read()
"""
CHUNKED, EXPECT = "Transfer-Encoding: chunked", "Expect: 100-continue"
COMMANDS: dict[str, list[str]] = {
    "curl": ["curl", "-s", "@URL@/echo.php", "@URL@/echo.php?again"],
    "curl-head": ["curl", "-sI", "@URL@/page.html"],
    "curl-old": ["curl", "-s0", "@URL@/echo.php"],
    "curl-form": ["curl", "-s", "-F", "a=1", "-F", "f=@@FILE@", "@URL@/form.php"],
    "curl-chunked": [
        "curl",
        "-s",
        "-H",
        "Transfer-Encoding: chunked",
        "-d",
        "a=b",
        "@URL@/echo.php",
    ],
    "curl-expect": ["curl", "-s", "-H", "Expect: 100-continue", "-d", "a=b", "@URL@/echo.php"],
    "curl-range": ["curl", "-s", "-r", "0-10,20-30", "@URL@/page.html"],
    "curl-put": ["curl", "-s", "-T", "@FILE@", "@URL@/echo.php"],
    "curl-compressed": ["curl", "-s", "--compressed", "-b", "a=b; c=d", "-e", "@URL@/", "@URL@/"],
    "curl-options": ["curl", "-s", "-X", "OPTIONS", "--request-target", "*", "@URL@"],
    "wget": ["wget", "-q", "-O", "-", "@URL@/echo.php/a%20b?c=d&e"],
    "wget-post": ["wget", "-q", "-O", "-", "--post-data", "a=b", "@URL@/echo.php"],
    "ab": ["ab", "-q", "-n", "1", "@URL@/echo.php"],
    "ab-kept": ["ab", "-q", "-k", "-n", "1", "@URL@/echo.php"],
    "php": ["php", "-r", PHP],
    "python": [sys.executable, "-c", REQUESTS],
}


class Relay:
    """Passes connections on to `port`, and keeps what their clients send."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: list[bytearray] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                kept = bytearray()
                self.sent.append(kept)
                for source, target, into in ((client, server, kept), (server, client, None)):
                    threading.Thread(
                        target=self._copy, args=(source, target, into), daemon=True
                    ).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, into: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if into is not None:
                    into += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def requests_of(sent: bytes) -> Iterator[bytes]:
    """The requests of a connection, one by one; what follows a change of the protocol is none."""
    while sent:
        head, end, rest = sent.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if re.search(rb"(?i)\r\ntransfer-encoding:", head):
            size = rest.index(b"0\r\n\r\n") + 5
        else:
            size = int(length[1]) if length else 0
        yield head + end + rest[:size]
        if re.search(rb"(?i)\r\nupgrade: *websocket", head):
            return
        sent = rest[size:]


def record(folder: Path) -> None:
    """Write one file for each kind of request."""
    folder.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()

    def keep(name: str, relay: Relay) -> None:
        for sent in relay.sent:
            for raw in requests_of(bytes(sent)):
                plain = raw.replace(f"127.0.0.1:{relay.port}".encode(), b"via.test")
                method, target, _ = plain.decode("latin-1").split(" ", 2)
                page = re.sub(r"\W.*", "", target[1:])
                words = (name, *([] if method == "GET" else [method.lower()]), page)
                file = "-".join(filter(None, words))
                if len(plain) <= LARGEST and page != "report" and file not in written:
                    written.add(file)
                    (folder / f"{file}.http").write_bytes(plain)
        relay.sent.clear()

    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        report = home / "report"
        with NginxPhp(home / "php", PAGES, env={"REPORT": str(report)}) as php:
            relay = Relay(php.port)
            url = f"http://127.0.0.1:{relay.port}"
            for name, words in COMMANDS.items():
                file = str(PAGES / "missing.php")
                command = [word.replace("@URL@", url).replace("@FILE@", file) for word in words]
                subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60)
                keep(name, relay)
            with Chromium(home / "chromium") as browser:
                browser.open(f"{url}/page.html")
                wait_for(report.exists, 120, "the browser to have seen every page")
            keep("chromium", relay)
            relay.close()
    print(f"{len(written)} requests in {folder}")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
