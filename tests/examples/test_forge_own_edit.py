"""The forge gives whoever edits or uploads the cookie by which Python shows it to them at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bridge.sync.freshness import Keys
from stack.php import PhpServer, run_php
from stack.redis import Redis
from tests.examples.forge_site import LEGACY, token_of

KEYS = Keys([("a1", "0123456789abcdef")])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a loaded forge."""
    folder = tmp_path_factory.mktemp("own-edit") / "site"
    run_php(LEGACY / "bin" / "load.php", env={"FORGE_DATA_DIR": str(folder)})
    return folder


@pytest.fixture(params=["queue", "outbox", "outbox alone"])
def url(
    request: pytest.FixtureRequest, data: Path, tmp_path: Path, redis_server: Redis
) -> Iterator[str]:
    """The forge, which publishes after the answer, or has an outbox, with or without a queue."""
    env = {"FORGE_DATA_DIR": str(data), "FORGE_FRESHNESS_KEY": "a1:0123456789abcdef"}
    if "outbox" in request.param:
        env["FORGE_OUTBOX"] = "1"
    if request.param != "outbox alone":
        env |= {"FORGE_REDIS_PORT": str(redis_server.port), "FORGE_REDIS_DB": "14"}
    with PhpServer(tmp_path, LEGACY / "htdocs", router=LEGACY / "router.php", env=env) as server:
        yield server.url


@pytest.fixture
def visitor(url: str) -> Iterator[requests.Session]:
    """Somebody who is logged in."""
    with requests.Session() as session:
        form = {
            "user": "maintainer",
            "password": "secret",
            "token": token_of(session, url + "/login"),
        }
        session.post(url + "/login", form, allow_redirects=False)
        yield session


def seen(visitor: requests.Session) -> list[tuple[str, str]]:
    """What the visitor's cookie asks for."""
    return [(e.entity, e.key) for e in KEYS.verify(visitor.cookies["bv"], time.time())]


def test_an_edit_and_an_upload_are_in_the_visitors_cookie(
    visitor: requests.Session, url: str
) -> None:
    assert "bv" not in visitor.cookies
    form = {
        **{"summary": "new", "description": "", "section": "x", "homepage": "", "maintainer": "x"},
        **{"license": "", "token": token_of(visitor, f"{url}/project/bash/edit")},
    }
    answer = visitor.post(f"{url}/project/bash/edit", form, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert seen(visitor) == [("project", "bash")]

    version = f"9.{time.time_ns()}"
    form = {"project": "bash", "version": version, "architecture": "all"}
    form["token"] = token_of(visitor, f"{url}/upload")
    files = {"file": (f"bash-{version}.tar", b"x")}
    answer = visitor.post(f"{url}/upload", form, files=files, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert sorted(seen(visitor)) == [("project", "bash"), ("release", f"bash/{version}/all")]
