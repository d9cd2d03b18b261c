"""What a configuration file names and cannot be imported: where it was looked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.importing import ImportFailed, import_callable

TABLE = """\
version: 1
sites:
  s: {hosts: [a.example], legacy: php}
backends:
  php: {url: "http://127.0.0.1:8090"}
routes:
  - {name: page, path: /p, handler: "no_such_module:view", python: 0%}
"""


def hint() -> str:
    with pytest.raises(ImportFailed) as error:
        import_callable("no_such_module:view")
    return error.value.hint


def test_the_folder_is_named_where_modules_are_found_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert str(tmp_path) not in hint()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert f"in {tmp_path}" in hint()


def test_pythonpath_is_named_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/srv/code:/srv/more")
    assert "in PYTHONPATH (/srv/code, /srv/more)" in hint()
    monkeypatch.delenv("PYTHONPATH")
    assert "in PYTHONPATH (which is not set)" in hint()


def test_the_command_names_places_for_modules_and_not_its_own_folder(tmp_path: Path) -> None:
    """As an operator starts it: its program's folder is the first of Python's path."""
    (tmp_path / "routes.yaml").write_text(TABLE)
    program = Path(sys.executable).with_name("bridgectl")
    done = subprocess.run(
        [program, "check"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert f"modules are looked for in {tmp_path}, in PYTHONPATH (which is not set)" in done.stderr
    assert "site-packages" in done.stderr
    assert f"{program.parent}," not in done.stderr
