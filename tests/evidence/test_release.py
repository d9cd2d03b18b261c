"""A release is its code and its templates; what it is made of says which one it is."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.evidence import release
from bridge.evidence.release import release_of, rules_of
from bridge.settings import Settings

HANDLERS = ["shop_pages.views:one", "shop_pages.more.views:two", "shop_single:app", ""]
SETTINGS = Settings.from_environ({})


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages that can be imported, and never are."""
    (tmp_path / "shop_pages" / "templates").mkdir(parents=True)
    (tmp_path / "shop_pages" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "shop_pages" / "views.py").write_text("one = 1\n")
    (tmp_path / "shop_pages" / "templates" / "page.html").write_text("<p>\n")
    (tmp_path / "shop_single.py").write_text("app = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    assert "shop_pages" not in sys.modules


def test_what_somebody_has_named_it_is_its_name() -> None:
    named = Settings.from_environ({"BRIDGE_RELEASE": "2026-11-30"})

    assert release_of(HANDLERS, named) == "2026-11-30"


@pytest.mark.parametrize(
    "change",
    [
        lambda code: (code / "shop_pages" / "views.py").write_text("one = 2\n"),
        lambda code: (code / "shop_pages" / "templates" / "page.html").write_text("<b>\n"),
        lambda code: (code / "shop_pages" / "new.py").write_text(""),
        lambda code: (code / "shop_pages" / "views.py").unlink(),
        lambda code: (code / "shop_pages" / "views.py").rename(code / "shop_pages" / "other.py"),
        lambda code: (code / "shop_single.py").write_text("app = 2\n"),
    ],
    ids=["code", "template", "new", "gone", "moved", "module"],
)
def test_another_state_of_its_files_is_another_release(code: Path, change: object) -> None:
    before = release_of(HANDLERS, SETTINGS)
    assert callable(change)
    change(code)

    assert release_of(HANDLERS, SETTINGS) != before


def test_what_is_no_code_changes_nothing(code: Path) -> None:
    before = release_of(HANDLERS, SETTINGS)
    (code / "shop_pages" / "__pycache__").mkdir()
    (code / "shop_pages" / "__pycache__" / "x.py").write_text("")
    (code / "shop_pages" / "visitors.log").write_text("line\n")
    (code / "shop_pages" / ".views.py.swp").write_text("x")
    os.utime(code / "shop_pages" / "views.py", (1, 1))
    (code / "other.py").write_text("")

    assert release_of(reversed(HANDLERS), SETTINGS) == before


def test_the_same_code_in_another_folder_is_the_same_release(
    code: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = release_of(HANDLERS, SETTINGS)
    moved = tmp_path_factory.mktemp("moved") / "code"
    shutil.copytree(code, moved)
    monkeypatch.syspath_prepend(moved)
    importlib.invalidate_caches()

    assert release_of(HANDLERS, SETTINGS) == before


def test_handlers_that_are_nowhere_are_no_error(code: Path) -> None:
    assert release_of([*HANDLERS, "no_such_package.views:x"], SETTINGS) == release_of(
        HANDLERS, SETTINGS
    )


def test_an_unchanged_file_is_not_read_again(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = release_of(HANDLERS, SETTINGS)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))

    assert release_of(HANDLERS, SETTINGS) == before


def test_a_package_with_too_many_files_asks_for_a_name(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "MOST_FILES", 3)

    with pytest.raises(BridgeError, match="set BRIDGE_RELEASE"):
        release_of(HANDLERS, SETTINGS)


def test_data_rules_are_what_sync_yaml_says(tmp_path: Path) -> None:
    file = tmp_path / "sync.yaml"
    settings = Settings.from_environ({"BRIDGE_SYNC": str(file)})
    assert rules_of(settings) == ""
    file.write_text("version: 1\n")
    first = rules_of(settings)
    file.write_text("version: 1\nentities: {}\n")

    assert len(first) == 12
    assert rules_of(settings) not in ("", first)


def test_data_rules_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match="cannot be read"):
        rules_of(Settings.from_environ({"BRIDGE_SYNC": str(tmp_path)}))
