"""`scripts/demo`: start the demo site, say where everything is, wait for Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from stack.check import run_check
from stack.errors import StackError
from stack.ports import is_free
from stack.process import REPOSITORY, Server
from stack.site import LOGIN, DemoSite

__all__ = ["main"]

STATE = REPOSITORY / ".stack"
PAUSE_BEFORE_RESTART = 15.0
"""Seconds that a killed server stays away, so that one can watch the site without it."""

console = Console(highlight=False, soft_wrap=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=8080, show_default=True, help="Port of the proxy on 127.0.0.1.")
@click.option("--check", is_flag=True, help="Do the main job once without a person, then exit.")
def main(port: int, check: bool) -> None:
    """A PHP site, the bridge in front of it, MongoDB and Redis on this machine.

    Ctrl-C stops everything. --check uses ports and a directory of its own, so that it can run
    beside a running demo.
    """
    if check:
        sys.exit(run_check(STATE / "check", console))
    if not is_free(port):
        sys.exit(
            f"Port {port} of 127.0.0.1 is taken by another program. Stop that one, or choose "
            f"another port: scripts/demo --port {port + 1}"
        )
    end_like_ctrl_c()
    try:
        with only_one(STATE / "demo.lock"):
            demo(STATE / "demo", port)
    except StackError as error:
        sys.exit(f"The demo does not run. {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def demo(directory: Path, port: int) -> None:
    """Run the demo until Ctrl-C, TERM or HUP. Raises StackError."""
    shutil.rmtree(directory, ignore_errors=True)
    site = DemoSite(directory, port=port, progress=say)
    try:
        site.start()
        show(site)
        with contextlib.suppress(KeyboardInterrupt):
            watch(site)
    finally:
        # From here on a second Ctrl-C must not leave half of it running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("stopping")
        site.stop()
        say("stopped; nothing is left running")


def say(line: str) -> None:
    """One line for the person at the terminal."""
    console.print(f"  {line}", markup=False)


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file. Raises StackError when another demo holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"Another one runs already in {lock.parent / 'demo'}.") from None
        yield


def end_like_ctrl_c() -> None:
    """Let TERM and HUP do what Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def show(site: DemoSite) -> None:
    """What runs where, and what to try."""
    servers = Table("server", "where", "pid", box=box.SIMPLE_HEAD, pad_edge=False)
    rows: list[tuple[str, str, Server]] = [
        ("the site, through the bridge", site.url, site.proxy),
        ("the PHP side alone", site.php.url, site.php),
        ("MongoDB, the mirror", site.mongod.address, site.mongod),
        ("Redis, the queue", site.redis.address, site.redis),
        ("sync worker", "from Redis to MongoDB", site.worker),
        ("relay", "from PHP's outbox to Redis", site.relay),
    ]
    for what, where, server in rows:
        servers.add_row(what, where, str(server.pid))
    console.print()
    console.print(servers)
    user, password = LOGIN
    bridge = shown(site.command)
    console.print(
        f"""\
Open {site.url}/ and log in as {user} with the password {password}.

Try, in another terminal in {REPOSITORY}
({bridge} is the `bridge` command with the settings of this demo):

  curl -i {site.url}/project/bash
  {bridge} flip project 50% --why "half of the visitors get Python"
  {bridge} flip project 100% --why "everybody gets Python"
  tail -f {shown(site.access_log)}     # who answered, and why
  kill -9 {site.mongod.pid}     # MongoDB is gone: PHP answers, no visitor notices
  {bridge} flip project 0% --why "back to PHP"
  {bridge} status     # what waits where, and who works on it
  {bridge} reconcile --deep     # are both sides equal?
  kill -9 {site.redis.pid} {site.worker.pid}     # edit meanwhile: nothing is lost

Routes: {shown(site.routes)}   Logs: {shown(site.directory)}/*/*.log
Ctrl-C stops everything.""",
        markup=False,
    )


def shown(path: Path) -> str:
    """The path as one types it in the checkout."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def watch(site: DemoSite) -> None:
    """Until Ctrl-C: report a server that ended and start it again a while later."""
    ended: dict[Server, float] = {}
    while True:
        time.sleep(0.5)
        for server in site.servers:
            if server.alive:
                continue
            if server not in ended:
                ended[server] = time.monotonic()
                say(
                    f"{server.name} has ended (log: {shown(server.log)}); "
                    f"it is started again in {PAUSE_BEFORE_RESTART:g} s"
                )
            elif time.monotonic() - ended[server] > PAUSE_BEFORE_RESTART:
                server.start()
                del ended[server]
                say(f"{server.name} is back, pid {server.pid}")


if __name__ == "__main__":
    main()
