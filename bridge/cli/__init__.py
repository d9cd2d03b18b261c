"""The command `bridgectl`, or `bridge`: one file per group of verbs, loaded when a verb is used."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from bridge import __version__
from bridge.cli.output import EXIT_CODES, report
from bridge.errors import BridgeError

__all__ = ["cli", "main"]

_VERBS = {
    "check": "bridge.cli.check",
    "compare": "bridge.cli.compare",
    "completion": "bridge.cli.check",
    "dead": "bridge.cli.queue",
    "differences": "bridge.cli.differences",
    "doctor": "bridge.cli.status",
    "example": "bridge.cli.example",
    "explain": "bridge.cli.check",
    "flip": "bridge.cli.flip",
    "history": "bridge.cli.flip",
    "plan": "bridge.cli.plan",
    "preview": "bridge.cli.routes",
    "reconcile": "bridge.cli.reconcile",
    "relay": "bridge.cli.queue",
    "capture": "bridge.cli.queue",
    "routes": "bridge.cli.routes",
    "schema": "bridge.cli.check",
    "serve": "bridge.cli.serve",
    "snapshot": "bridge.cli.snapshot",
    "status": "bridge.cli.status",
    "survey": "bridge.cli.survey",
    "sync": "bridge.cli.sync",
    "worker": "bridge.cli.queue",
}


class _Verbs(click.Group):
    """Imports a verb's module only when it is asked for: `bridgectl flip` must be quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        command: Any = getattr(importlib.import_module(_VERBS[name]), name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from bridge.yamlfile import did_you_mean

            hint = did_you_mean(args[0], _VERBS)
            raise click.UsageError(f"{error.message} {hint}".strip(), ctx) from None


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()),
)
@click.version_option(__version__, prog_name="bridgectl")
@click.option(
    "--routes",
    "routes_file",
    type=click.Path(dir_okay=False),
    envvar="BRIDGE_ROUTES",
    default="routes.yaml",
    show_default=True,
    help="The routing file; also BRIDGE_ROUTES.",
)
def cli(routes_file: str) -> None:
    """Move a PHP site to Python one URL at a time, without a visitor noticing.

    \b
    Example:
      bridgectl check                          is routes.yaml right?
      bridgectl serve --bind 0.0.0.0:8080      put it in front of the PHP site
      bridgectl flip project 5% --why "first"  5% of the visitors get Python
      bridgectl flip project 0% --why "undo"   and back
    """
    os.environ["BRIDGE_ROUTES"] = routes_file
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # handlers are found from where the command is given


def main() -> None:
    """Run the command line; every error of ours becomes a message and an exit code."""
    try:
        # Without its standalone mode, click gives the exit code back as the result.
        code = cli.main(prog_name="bridgectl", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit("stopped")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BridgeError as error:
        sys.exit(report(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)  # `bridgectl routes | head` is no error
