"""Fuzzing of a routes.yaml that is edited while it is watched.

    python -m tests.fuzz.watched_file SECONDS [SEED]

Each round harms the file, its folder, its error page and its state directory in any way and
order; then a good file is saved, in one of the ways that editors have, and must be live within a
bound. `Fuzz` is also what the test in `tests/proxy/routing/test_watched_file.py` runs for a while.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bridge.proxy.routing.reload import Reloader
from stack.waiting import wait_for

__all__ = ["LIVE_WITHIN", "Fuzz"]

LIVE_WITHIN = 10.0
"""Seconds. Far more than it takes, since other processes may have the machine."""

GOOD = """\
version: 1
sites:
  forge: {hosts: [forge.example], legacy: php, error_pages: {502: page.html}}
backends:
  php: {url: "http://127.0.0.1:8090"}
routes:
  - &base {name: page, path: "/page/<name>", handler: "bridge.wsgi:build", python: 5%}
  - {<<: *base, name: other, path: "/other"}
"""
WORDS = [
    b"{", b"[" * 900, b"{a: " * 300, b"&a", b"*a", b"<<: *base", b"2026-13-45", b"!!int x", b"\0",
    b"\xff", b"\xef\xbb\xbf", b"<string(min=3):x>", b"<name>/<name>", b"python: 7%", b"- ", b": ",
    b"handler: \"no.such:x\"", b"502: nowhere", b"502: /dev/zero", b"502: pipe", b"\n", b"\t",
    b"9" * 5000, b"%YAML 9\n", b"---\n", b"'", b'"', b"#", b"? ", b"!!omap",
]  # fmt: skip
ODD = [
    ("version: 1", "version: 2026-13-45"), ("version: 1", "version: !!int abc"),
    ("version: 1", "version: !!float x"), ("version: 1", "version: " + "9" * 5000),
    ("<name>", "<name>/<name>"), ("<name>", "<string(min=3):x>"), ("<name>", "<int(max=x):x>"),
    ("routes:", "routes:\n" + "  - {\n" * 900), ("python:", "pyton:"),
    ("page.html", '"\\0"'), ("page.html", '"\\ud800"'),
]  # fmt: skip


class Fuzz:
    """One watched file in `folder`, which is its own. `seed` names the whole course of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.site, self.state = folder / "site", folder / "state"
        self.file, self.page = self.site / "routes.yaml", self.site / "page.html"
        self.rounds, self.slowest = 0, 0.0
        self._mend()
        self.file.write_text(self._good())
        self.reloader = Reloader(self.file, self.state, import_limit=0.5)
        self.reloader.start()

    def close(self) -> None:
        self.reloader.stop()
        self._mend()

    def round(self) -> None:
        """Some harm, then a good file. Raises TimedOut when that is not live."""
        self.rounds += 1
        done = []
        for _ in range(self.random.randrange(1, 6)):
            harm = self.random.choice(self._harms)
            done.append(harm.__name__)
            try:
                harm(self)
            except OSError:
                continue  # one harm may stand in the way of another
            if self.random.random() < 0.3:
                # It is looked at in between, as happens when somebody saves slowly.
                self.reloader.check(force=True)
        self._mend()
        text = self._good()
        save = self.random.choice(self._saves)
        save(self, text.encode())
        what = f"round {self.rounds}, after {', '.join(done)}, the file by {save.__name__}"
        began = time.monotonic()
        wait_for(lambda: self._is_live(text), LIVE_WITHIN, what, interval=0.005)
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert self.reloader.watches

    def _is_live(self, text: str) -> bool:
        table = self.reloader.table()
        return table.text == text and self.reloader.error is None

    def _good(self) -> str:
        share = self.random.randrange(100_000) / 1000
        return GOOD.replace("5%", f"{share:g}%") + f"# round {self.rounds}\n"

    def _damaged(self) -> bytes:
        raw = bytearray(self._good().encode())
        for _ in range(self.random.randrange(1, 5)):
            start = self.random.randrange(len(raw) + 1)
            put = self.random.choice([*WORDS, self.random.randbytes(self.random.randrange(9))])
            raw[start : start + self.random.randrange(30)] = put
        return bytes(raw)

    def _mend(self) -> None:
        """All is as it should be, but for the file's content."""
        for folder in (self.site, self.state):
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        for path in (self.file, self.page):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or (path.exists() and not path.is_file()):
                path.unlink()
            elif path.exists():
                path.chmod(0o644)
        self.page.write_text("<p>sorry")

    # what may happen to it

    def _write_damaged(self) -> None:
        self.file.write_bytes(self._damaged())

    def _replace_by_damaged(self) -> None:
        self._by_rename(self._damaged())

    def _write_odd_value(self) -> None:
        """What YAML, or a rule, cannot make anything of, in a file that is good but for that."""
        old, new = self.random.choice(ODD)
        self.file.write_text(self._good().replace(old, new))

    def _write_noise(self) -> None:
        self.file.write_bytes(self.random.randbytes(self.random.randrange(200)))

    def _write_good(self) -> None:
        self.file.write_text(self._good())

    def _cut(self) -> None:
        os.truncate(self.file, self.random.randrange(self.file.stat().st_size + 1))

    def _append(self) -> None:
        with self.file.open("ab") as file:
            file.write(self.random.choice(WORDS))

    def _remove(self) -> None:
        self.file.unlink()

    def _make_folder(self) -> None:
        self.file.unlink(missing_ok=True)
        self.file.mkdir()

    def _make_pipe(self) -> None:
        self.file.unlink(missing_ok=True)
        os.mkfifo(self.file)

    def _link_to_nothing(self) -> None:
        self.file.unlink(missing_ok=True)
        self.file.symlink_to("nowhere")

    def _link_to_itself(self) -> None:
        self.file.unlink(missing_ok=True)
        self.file.symlink_to(self.file.name)

    def _forbid(self) -> None:
        self.random.choice([self.file, self.page, self.site, self.state]).chmod(0)

    def _remove_folder(self) -> None:
        shutil.rmtree(self.site)

    def _rename_folder(self) -> None:
        away = self.site.with_name("away")
        shutil.rmtree(away, ignore_errors=True)
        self.site.rename(away)

    def _remove_state(self) -> None:
        shutil.rmtree(self.state)

    def _state_is_a_file(self) -> None:
        shutil.rmtree(self.state)
        self.state.write_text("")

    def _spoil_page(self) -> None:
        self.page.write_bytes(b"caf\xe9")

    def _remove_page(self) -> None:
        self.page.unlink()

    def _page_is_a_pipe(self) -> None:
        self.page.unlink(missing_ok=True)
        os.mkfifo(self.page)

    def _touch(self) -> None:
        os.utime(self.file, (self.random.randrange(2**31), self.random.randrange(2**31)))

    _harms: tuple[Callable[[Fuzz], None], ...] = (
        _write_damaged, _replace_by_damaged, _write_odd_value, _write_noise,
        _write_odd_value, _write_good, _cut, _append, _remove,
        _make_folder, _make_pipe, _link_to_nothing, _link_to_itself, _forbid, _remove_folder,
        _rename_folder, _remove_state, _state_is_a_file, _spoil_page, _remove_page,
        _page_is_a_pipe, _touch,
    )  # fmt: skip

    # how a good file is saved

    def _by_rename(self, raw: bytes) -> None:
        new = self.file.with_suffix(".new")
        new.write_bytes(raw)
        new.replace(self.file)

    def _in_place(self, raw: bytes) -> None:
        self.file.write_bytes(raw)

    def _in_pieces(self, raw: bytes) -> None:
        with self.file.open("wb") as file:
            for start in range(0, len(raw), 100):
                file.write(raw[start : start + 100])
                file.flush()

    def _twice(self, raw: bytes) -> None:
        self.file.write_bytes(self._damaged())
        self.file.write_bytes(raw)

    def _with_the_time_of_the_old(self, raw: bytes) -> None:
        self.file.write_bytes(raw.replace(b"version: 1", b"version: 2"))
        wait_for(lambda: self.reloader.error, LIVE_WITHIN, "the file before it to be seen")
        before = os.stat(self.file)
        self.file.write_bytes(raw)
        os.utime(self.file, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _remove_and_write(self, raw: bytes) -> None:
        self.file.unlink(missing_ok=True)
        self.file.write_bytes(raw)

    def _by_link(self, raw: bytes) -> None:
        target = self.site / f"version-{self.rounds}"
        target.write_bytes(raw)
        link = self.file.with_suffix(".link")
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)
        link.replace(self.file)

    _saves: tuple[Callable[[Fuzz, bytes], None], ...] = (
        _by_rename, _in_place, _in_pieces, _twice, _with_the_time_of_the_old, _remove_and_write,
        _by_link,
    )  # fmt: skip


def main() -> None:
    """Run for so many seconds, or until something is found."""
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), seed)
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                fuzz.round()
        finally:
            fuzz.close()
        print(f"{fuzz.rounds} rounds, every good file was live after {fuzz.slowest:.2f} s at most")


if __name__ == "__main__":
    main()
