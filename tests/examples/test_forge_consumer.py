"""What the Python side does with tombstones, a dead MongoDB, forks and odd documents."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from jinja2 import UndefinedError
from pymongo.database import Database

from bridge.errors import ServerAway
from bridge.queue.events import Event
from bridge.sync import indexes
from bridge.sync.apply import apply
from examples.forge.consumer import views
from stack.ports import free_port
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.examples.forge_site import MIRROR, Declined, ask_python, reading

Documents = Database[dict[str, Any]]

PROJECT: dict[str, Any] = {
    "_id": "bash",
    "_v": 1,
    "name": "bash",
    "summary": "a shell",
    "description": "A shell.",
    "section": "shells",
    "homepage": "javascript:alert(1)",
    "maintainer": "Somebody <s@example.org>",
    "version": "5.2",
    "size_kb": 7000,
    "updated": datetime(2024, 2, 29, 23, 59, 59),
    "downloads": 1234567,
}


EDITED = {
    **{field: value for field, value in PROJECT.items() if field[0] != "_"},
    "summary": "an edited shell",
    "updated": "2024-03-01T00:00:00Z",
    "license": None,
}


@pytest.fixture
def documents(
    clean_mongodb: Documents, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Documents]:
    """An empty mirror that the views read."""
    indexes.run(clean_mongodb, MIRROR)
    with reading(monkeypatch, environment_of(mongodb_url)):
        yield clean_mongodb


def environment_of(mongodb_url: str) -> dict[str, str]:
    return {"BRIDGE_MONGODB_URL": mongodb_url, "BRIDGE_SYNC": str(REPOSITORY / "sync.yaml")}


def test_numbers_and_times_are_written_out(documents: Documents) -> None:
    documents["projects"].insert_one(PROJECT)
    page = ask_python("/project/bash").body.decode()
    assert "29 Feb 2024, 23:59 UTC" in page
    assert "1,234,567" in page


def test_a_homepage_that_is_no_web_address_is_no_link(documents: Documents) -> None:
    documents["projects"].insert_one(PROJECT)
    assert b"javascript" not in ask_python("/project/bash").body


def test_a_page_comes_from_memory_until_its_project_changes(documents: Documents) -> None:
    documents["projects"].insert_one(PROJECT)

    def from_memory() -> bool:
        hits = views.store.stats().hits
        ask_python("/project/bash")
        return views.store.stats().hits > hits

    # The first reading starts the follower of changes; without its word nothing is kept.
    wait_for(from_memory, what="a page from memory")
    apply(documents, MIRROR, [Event("project", "changed", "bash", 2, EDITED)])
    wait_for(lambda: b"an edited shell" in ask_python("/project/bash").body, what="the edit")
    assert ask_python("/projects").body.count(b"an edited shell") == 1


def test_a_tombstone_is_no_project(documents: Documents) -> None:
    documents["projects"].insert_many([PROJECT, {"_id": "zsh", "_v": 9, "_del": True}])
    with pytest.raises(Declined):
        ask_python("/project/zsh")
    assert b"zsh" not in ask_python("/projects").body


def test_a_tombstone_is_no_release(documents: Documents) -> None:
    documents["projects"].insert_one(PROJECT)
    documents["releases"].insert_one({"_id": "bash/5.2/amd64", "_v": 2, "_del": True})
    assert b"/download/" not in ask_python("/project/bash/releases").body


def test_releases_of_a_project_whose_name_only_starts_alike_are_not_shown(
    documents: Documents,
) -> None:
    documents["projects"].insert_one(PROJECT)
    for name in ("bash-completion", "bash0", "bas", "bash.x"):
        documents["releases"].insert_one(
            {
                "_id": f"{name}/1/all",
                "_v": 1,
                "project": name,
                "version": "1",
                "architecture": "all",
                "filename": f"{name}_1_all.deb",
                "size": 1,
                "sha256": "",
                "published": datetime(2024, 1, 1),
            }
        )
    assert b"/download/" not in ask_python("/project/bash/releases").body


def test_an_empty_mirror_leaves_the_list_to_legacy(documents: Documents) -> None:
    with pytest.raises(Declined):
        ask_python("/projects")


def test_a_document_without_a_field_is_an_error_and_no_half_page(documents: Documents) -> None:
    documents["projects"].insert_one({"_id": "bash", "_v": 1, "name": "bash"})
    with pytest.raises(UndefinedError):
        ask_python("/project/bash")


def test_downloads_go_to_the_mirror_of_the_settings(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_MIRROR", "https://mirror.example.org/forge/")
    documents["releases"].insert_one(
        {"_id": "gtk+3.0/1/all", "_v": 1, "project": "gtk+3.0", "filename": "gtk+_1.deb"}
    )
    answer = ask_python("/download/gtk+3.0/gtk+_1.deb")
    location = "https://mirror.example.org/forge/mirror/gtk%2B3.0/gtk%2B_1.deb"
    assert ("location", location) in answer.headers


def test_a_mongodb_that_is_down_is_an_error_and_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/forge"
    with reading(monkeypatch, environment_of(url)), pytest.raises(ServerAway):
        ask_python("/project/bash")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_with_its_own_connections(documents: Documents) -> None:
    documents["projects"].insert_one(PROJECT)
    expected = ask_python("/project/bash").body
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run in the child: it ends here, with the result as its status.
        same = False
        try:
            same = ask_python("/project/bash").body == expected
        finally:
            os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ask_python("/project/bash").body == expected
