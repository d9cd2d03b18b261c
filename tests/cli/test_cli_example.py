"""`bridgectl example`: what comes with the package is listed, and written without harm."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge import share
from bridge.cli import cli
from bridge.cli.output import report
from bridge.errors import BridgeError
from bridge.proxy.routing.load import load
from bridge.sync.entities import load as load_sync
from stack.process import REPOSITORY


def example(*words: str, to: Path | None = None) -> Result:
    where = ["--to", str(to)] if to else []
    return CliRunner().invoke(cli, ["example", *words, *where])


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_list_has_php_its_sql_deployment_and_a_site() -> None:
    listed = json.loads(example("-o", "json").stdout)
    assert {
        "php/BridgeProducer.php",
        "php/sql/outbox.mysql.sql",
        "deploy/systemd/bridge@.service",
        "deploy/nginx/site.conf",
        "deploy/mod_wsgi/bridge.wsgi",
        "site/routes.yaml",
        "site/sync.yaml",
    } <= set(listed)


@pytest.mark.parametrize("name", [*share.files()])
def test_every_file_is_written_as_it_is(name: str, tmp_path: Path) -> None:
    assert example(name, to=tmp_path).exit_code == 0
    assert written(tmp_path) == {name}
    assert (tmp_path / name).read_bytes() == share.files()[name].read_bytes()


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("sync.yaml", {"site/sync.yaml"}),
        ("sql", {f"php/sql/outbox.{kind}.sql" for kind in ("mysql", "postgresql", "sqlite")}),
        ("deploy/lighttpd/", {"deploy/lighttpd/site.conf"}),
        ("all", set(share.files())),
    ],
)
def test_a_name_is_a_file_or_a_folder(word: str, names: set[str], tmp_path: Path) -> None:
    assert example(word, to=tmp_path / "new" / "folder").exit_code == 0
    assert written(tmp_path / "new" / "folder") == names


def test_what_is_no_name_is_wrong_usage_and_writes_nothing(tmp_path: Path) -> None:
    done = example("nginx", "ngnix", to=tmp_path)
    assert done.exit_code == 2
    assert "did you mean `nginx`?" in done.output
    assert written(tmp_path) == set()


@pytest.mark.parametrize("there", ["file", "link to nothing"])
def test_nothing_is_overwritten_unless_asked(tmp_path: Path, there: str) -> None:
    """Not even the files that are not there are written then."""
    (tmp_path / "site").mkdir()
    place = tmp_path / "site" / "sync.yaml"
    if there == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "elsewhere")
    done = example("site", to=tmp_path)
    assert isinstance(done.exception, BridgeError)
    assert report(done.exception) == 5
    assert "--force" in str(done.exception)
    assert not (tmp_path / "site" / "routes.yaml").exists()
    assert not (tmp_path / "elsewhere").exists()
    assert example("site", "--force", to=tmp_path).exit_code == 0
    assert place.read_bytes() == share.files()["site/sync.yaml"].read_bytes()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("a file where a folder would be")
    done = example("site", to=tmp_path)
    assert isinstance(done.exception, BridgeError)
    assert "cannot write" in str(done.exception)


def test_the_example_site_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler is imported from the folder that it is in."""
    assert example("site", to=tmp_path).exit_code == 0
    monkeypatch.syspath_prepend(tmp_path / "site")
    table = load(tmp_path / "site" / "routes.yaml")
    assert [(route.name, route.app is not None) for route in table.routes] == [("hello", True)]
    assert "product" in load_sync(tmp_path / "site" / "sync.yaml").entities


def test_a_wheel_has_the_folders_that_a_checkout_has() -> None:
    """What pyproject.toml puts into a wheel is what is looked for there."""
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = told["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {
        place: f"bridge/share/{tree}" for tree, place in share.TREES.items()
    }
