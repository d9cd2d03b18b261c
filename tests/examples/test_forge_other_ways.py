"""The pages read with plain PyMongo and with Ming: the bytes of PHP, and what it takes."""

from __future__ import annotations

import pytest
from pymongo.errors import ConnectionFailure

from examples.forge.consumer.models import Project, alive, session
from stack.ports import free_port
from tests.examples.forge_site import Declined, Site, ask_python

WAYS = ["pymongo", "ming"]


@pytest.mark.parametrize("way", WAYS)
def test_the_project_page_is_phps(site: Site, way: str) -> None:
    for name in ("bash", *site.names()[:5]):
        assert ask_python(f"/{way}/project/{name}") == site.ask(f"/project/{name}")


def test_the_release_list_is_phps(site: Site) -> None:
    name = site.largest_project()
    assert ask_python(f"/ming/project/{name}/releases") == site.ask(f"/project/{name}/releases")


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_is_on_the_next_page_of_the_same_thread(site: Site, way: str) -> None:
    ask_python(f"/{way}/project/bash")
    with site.login() as visitor:
        site.save(visitor, "bash", summary=f"edited for {way}", license="")
    page = ask_python(f"/{way}/project/bash")
    assert f"edited for {way}".encode() in page.body
    assert page == site.ask("/project/bash")


@pytest.mark.parametrize("way", WAYS)
def test_a_tombstone_is_no_project(site: Site, way: str) -> None:
    projects = site.database["projects"]
    projects.insert_one({"_id": "no-more", "_v": 9, "_del": True})
    try:
        with pytest.raises(Declined):
            ask_python(f"/{way}/project/no-more")
    finally:
        projects.delete_one({"_id": "no-more"})


@pytest.mark.parametrize("way", WAYS)
def test_a_visitor_with_a_session_is_left_to_legacy(site: Site, way: str) -> None:
    with pytest.raises(Declined):
        ask_python(f"/{way}/project/bash", headers={"Cookie": "PHPSESSID=abc"})


def test_a_model_cannot_be_written(site: Site) -> None:
    try:
        alive(Project, {"_id": "bash"}).first().summary = "written by hand"
        with pytest.raises(TypeError, match="the bridge's worker alone"):
            session.flush()
    finally:
        session.close()
    assert site.project("bash")["summary"] != "written by hand"


@pytest.mark.parametrize("way", WAYS)
def test_a_mongodb_that_is_down_is_an_error_and_no_page(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDGE_MONGODB_URL", f"mongodb://127.0.0.1:{free_port()}/forge")
    with pytest.raises(ConnectionFailure):
        ask_python(f"/{way}/project/bash")
