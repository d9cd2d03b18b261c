"""The verb that answers visitors: serve."""

from __future__ import annotations

from typing import Any

import click

from bridge.cli.options import how_many
from bridge.proxy.routing.load import Handlers, load
from bridge.settings import Settings

GOES_ON = """\
bridge: serving all the same, because it has served here before: the last good table if the file is
broken, legacy's pages for routes whose handler is missing. Mend it, or see `bridgectl routes`."""


@click.command()
@click.option(
    "--bind", multiple=True, default=["127.0.0.1:8080"], show_default=True, help="Repeatable."
)
@how_many("--workers", 2, 1, "Processes.")
@how_many("--handlers", 16, 1, "Python handlers a process runs at a time.")
@how_many(
    *("--connections", 0, 0),
    "Connections of visitors to a process; more wait. 0: as many as it has descriptors for.",
)
@click.option(
    "--access-log",
    default="-",
    show_default="standard output",
    help="File, `-` for standard output, '' for none. SIGUSR1 opens the file again.",
)
@click.option(
    "--operator",
    default="",
    metavar="HOST:PORT",
    help="Serve /metrics, /health and /routes here, and take /events.",
)
@how_many("--graceful-timeout", 30, 0, "Seconds in which to finish requests at the end.")
@how_many(
    *("--max-requests", 0, 0),
    "Replace a worker after so many requests, or up to twice as many: 2500 means 2,500 to "
    "5,000. It goes on until the next one is ready. 0: never.",
)
@how_many(
    *("--worker-timeout", 30, 1),
    "Replace a worker that gives no sign of life for so many seconds.",
)
@how_many(
    *("--shadow-memory", 512, 64),
    "Megabytes of memory for the process that compares, where routes have `shadow:`.",
)
@click.option("--certfile", default="", help="Use TLS with this certificate.")
@click.option("--keyfile", default="", help="Its key, if that is in another file.")
def serve(**options: Any) -> None:
    """Answer visitors. SIGHUP reloads routes.yaml at once, SIGTERM finishes requests and ends.

    \b
    Example:
      bridgectl serve --bind 0.0.0.0:8080 --workers 4 --operator 127.0.0.1:9180
    """
    from bridge.gating import start_gate
    from bridge.operator import check_address
    from bridge.proxy.serve.server import ServeOptions
    from bridge.proxy.serve.server import serve as run

    settings = Settings.from_environ()
    if options["operator"]:
        check_address(options["operator"], settings.operator_token)
    # Whether the file is good is asked in a process that ends, so that the handlers' modules
    # are not in the parent of the workers: a new worker gets new code, and no forked client.
    check_in_child(settings)
    run(settings, ServeOptions(**options), start_gate)


def check_in_child(settings: Settings) -> None:
    """Load routes.yaml, and what the gate needs, in a child process. Raises click's Exit with its
    code when something is broken; the child has said why. Where there is a last good table, as
    after a reboot, the site is served with that and not left alone."""
    import os
    import sys

    pid = os.fork()
    if pid == 0:
        from bridge.cli.output import report
        from bridge.errors import BridgeError
        from bridge.gating import gate_of
        from bridge.proxy.routing import lastgood

        served = lastgood.is_there(settings.state_dir)
        code = 70
        try:
            try:
                # Who has served here before goes on anyway: a module that hangs is then the
                # workers' to tell, and costs no start.
                load(settings.routes, handlers=Handlers.NAMED if served else Handlers.NEEDED)
                gate_of(settings)
            except BridgeError as error:
                if not served:
                    raise
                report(error)
                click.echo(GOES_ON, err=True)
            code = 0
        except BridgeError as error:
            code = report(error)
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, result = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(result):
        raise click.exceptions.Exit(code if code > 0 else 1)
