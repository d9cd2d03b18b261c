"""Files of lines, plain or compressed, or standard input, in blocks of whole lines and bounded
memory. A line without an end costs no more than others: what is too long is cut and dropped."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from bridge.errors import ConfigError, Problem

__all__ = ["LONGEST", "blocks", "sizes"]

LONGEST = 2**20
"""Bytes of one line; more of it is not looked at."""
_BLOCK = 2**18
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def _problem(path: str, what: str, hint: str = "") -> ConfigError:
    return ConfigError([Problem(path, 0, 0, what, hint)])


def sizes(paths: list[str]) -> int | None:
    """Bytes of all of them as they lie there; None with standard input among them."""
    if "-" in paths:
        return None
    return sum(Path(path).stat().st_size for path in paths if Path(path).exists())


def _opened(path: str) -> IO[bytes]:
    try:
        return sys.stdin.buffer if path == "-" else open(path, "rb")
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from None


def _unpacked(path: str, raw: IO[bytes]) -> Any:
    start = raw.peek(4)[:4]  # type: ignore[attr-defined]
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(_ZSTD):
        try:
            import zstandard
        except ImportError:
            hint = "pip install zstandard, or: zstd -dc FILE | bridgectl survey -"
            raise _problem(
                path, "is compressed with zstd, which cannot be read here", hint
            ) from None
        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return raw


def blocks(
    path: str, on_read: Callable[[int], None], on_note: Callable[[str], None]
) -> Iterator[str]:
    """Whole lines of a file, as Latin-1 text that ends with a line's end.

    path: a file, or `-` for standard input.
    on_read: is given the bytes that were read of the file since the last time.
    on_note: is told what is wrong with it in words, when it cannot be read to its end.

    Raises ConfigError for a file that cannot be opened.
    """
    raw = _opened(path)
    try:
        data = _unpacked(path, raw)
        rest, told, dropping = b"", 0, False
        while True:
            try:
                block = data.read(_BLOCK)
            except (EOFError, OSError, zlib.error, _zstd_error()) as error:
                on_note(f"{path} cannot be read to its end: {error}")
                block = b""
            if path != "-":
                at = raw.tell()
                on_read(at - told)
                told = at
            if not block:
                break
            if dropping:
                _, found, block = block.partition(b"\n")
                dropping = not found
            whole, found, last = block.rpartition(b"\n")
            if found:
                yield (rest + whole + found).decode("latin-1")
                rest = last
            else:
                rest += block
            if len(rest) > LONGEST:
                yield rest[:LONGEST].decode("latin-1") + "\n"
                rest, dropping = b"", True
        if rest:
            yield rest.decode("latin-1") + "\n"
    finally:
        if path != "-":
            raw.close()


def _zstd_error() -> type[Exception]:
    zstandard = sys.modules.get("zstandard")
    found: type[Exception] = zstandard.ZstdError if zstandard else zlib.error
    return found
