"""The verb that writes out what comes with the package: PHP, deployment files, a small site."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.output import Format, format_option, say


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder to write to, instead of this one.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@format_option
def example(names: tuple[str, ...], folder: Path, force: bool, output: Format) -> None:
    """List the files that come with the package, or write them out.

    NAME is a file or a folder of the list: routes.yaml, php, nginx, deploy/systemd, or all. If one
    of the files exists already, nothing is written, and the exit code is 5.

    \b
    Example:
      bridgectl example
      bridgectl example site --to /srv/shop
      bridgectl example nginx systemd
    """
    from bridge import share

    among = share.files()
    if not names:
        listed = "\n".join(among)
        say(list(among), output, f"{listed}\n\nWrite them out: bridgectl example NAME --to DIR")
        return
    found, unknown = share.chosen(names, among)
    if unknown:
        folders = {part for name in among for part in name.split("/")}
        from bridge.yamlfile import did_you_mean

        hint = did_you_mean(unknown[0], [*folders, "all"])
        raise click.UsageError(
            f"No example {unknown[0]}; `bridgectl example` lists them. {hint}".strip()
        )
    written = [str(place) for place in share.write(found, folder, force=force)]
    say(written, output, "\n".join(f"wrote {place}" for place in written))
