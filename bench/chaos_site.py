"""The site of `bench.chaos`: its routes, its handlers, and `python -m bench.chaos_site PORT MODE`,
its legacy program.

Both sides show the pages of `bench.chaos_pages`, and misbehave as the word in a file says: for
every request anew, so that whoever writes there need start nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from werkzeug.wrappers import Request, Response

from bench.chaos_pages import digest, page

__all__ = ["HANDLER_MODES", "HARMLESS", "LEGACY_MODES", "MODE_FILE", "ROUTES", "view"]

MODE_FILE = "CHAOS_HANDLERS"
LEGACY_MODES = ("hang", "garbage", "cut", "close", "late", "slow", "extra", "mixed")
HANDLER_MODES = ("raise", "hang", "cut", "nothing", "exit", "slow", "mixed")
HARMLESS = frozenset({"slow", "extra"})
"""Modes in which every page comes all the same."""

LATE = 2.0  # seconds; more than the bridge waits for a first byte
HANG = 4.0  # seconds at most, or until the mode changes
_PIECES = 8

# One line a route: a file that is cut has a route or has it not.
ROUTES = """\
version: 1
sites:
  chaos:
    hosts: ["@HOST@"]
    legacy: site
    error_pages: {default: sorry.html}
    response_headers: {set: {X-Table: "@NUMBER@"}}
    sticky: {header: X-Visitor}
backends:
  site:
    url: "@SITE@"
    timeouts: {wait: 1s, connect: 1s, send: 2s, first_byte: 1s, between_bytes: 1s, idle: 2s}
routes:
  - {name: python, path: "/python/<x>", handler: "@CODE@:view", python: 100%, timeout: 1s}
  - {name: form, path: "/form/<x>", methods: [POST], handler: "@CODE@:view", python: 100%, timeout: 1s}
  - {name: share, path: "/share/<x>", handler: "@CODE@:view", python: @SHARE@%, timeout: 1s, response_headers: {set: {X-Row: "@NUMBER@"}}}
"""  # noqa: E501


def _mode(file: Path, modes: tuple[str, ...], chance: random.Random) -> str:
    try:
        word = file.read_text(encoding="ascii").strip()
    except OSError:
        return "fine"
    return chance.choice((*modes[:-1], "fine")) if word == "mixed" else word or "fine"


_chance = random.Random(os.getpid())


def view(request: Request, x: str) -> Response | None:
    """Python's side of every page."""
    file = Path(os.environ[MODE_FILE])
    mode = _mode(file, HANDLER_MODES, _chance)
    sent = digest(request.get_data())
    target = request.environ["RAW_URI"]
    body = page("python", request.method, target, sent)
    if mode == "raise":
        raise RuntimeError("chaos")
    if mode == "exit":
        sys.exit(3)
    if mode == "nothing":
        return None
    until = time.monotonic() + HANG
    while mode == "hang" and time.monotonic() < until:
        time.sleep(0.05)
    headers = {"X-Side": "python", "X-Target": target}
    if mode in ("cut", "slow") or "framing=chunked" in target:
        pieces = _pieces(body, mode)
        answer = Response(pieces, headers=headers)
        if "framing=length" in target:
            answer.content_length = len(body)
        return answer
    return Response(body, headers=headers)


def _pieces(body: bytes, mode: str) -> Iterator[bytes]:
    step = len(body) // _PIECES + 1
    for at in range(0, len(body), step):
        if mode == "cut" and at:
            raise RuntimeError("chaos in the middle")
        if mode == "slow":
            time.sleep(0.02)
        yield body[at : at + step]


class Legacy:
    """The legacy program; `modes` is the file with its mode."""

    def __init__(self, modes: Path) -> None:
        self.modes = modes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of a connection."""
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One; whether the connection may be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        fields = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        sent = await _body(reader, fields)
        body = page("legacy", method, target, digest(sent))
        lines = ["HTTP/1.1 200 OK", "X-Side: legacy", f"X-Target: {target}"]
        if "framing=chunked" in target:
            lines.append("Transfer-Encoding: chunked")
            half = len(body) // 2
            parts = [one for one in (body[:half], body[half:]) if one]
            body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (*parts, b""))
        else:
            lines.append(f"Content-Length: {len(body)}")
        whole = "\r\n".join([*lines, "", ""]).encode() + body
        return await self._write(writer, whole, _mode(self.modes, LEGACY_MODES, _chance))

    async def _write(self, writer: asyncio.StreamWriter, whole: bytes, mode: str) -> bool:
        if mode == "close":
            return False
        if mode == "garbage":
            writer.write(_chance.randbytes(_chance.randrange(1, 300)))
            return False
        if mode == "cut":
            writer.write(whole[: _chance.randrange(1, len(whole))])
            return False
        if mode == "hang":
            await asyncio.sleep(HANG)
            return False
        if mode == "late":
            # Whoever has given up must not take this for the answer to what it asks next.
            await asyncio.sleep(LATE)
        if mode == "slow":
            for at in range(0, len(whole), step := len(whole) // _PIECES + 1):
                writer.write(whole[at : at + step])
                await asyncio.sleep(0.02)
            return True
        if mode == "extra" and len(whole) < 10_000:
            # Nobody has asked for the second.
            evil = b"HTTP/1.1 200 OK\r\nX-Side: legacy\r\nContent-Length: 4\r\n\r\nevil"
            writer.write(whole + evil)
            return True
        writer.write(whole)
        return True


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if "transfer-encoding" not in fields:
        return await reader.readexactly(int(fields.get("content-length", 0)))
    found = b""
    while size := int(await reader.readline(), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return found


async def main(port: int, modes: Path) -> None:
    """Serve until the process ends."""
    server = await asyncio.start_server(Legacy(modes).serve, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
