"""The three databases, with a table of every type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sync.alltypes.everything import Everything, with_every_type


@pytest.fixture(scope="module", params=["mysql", "postgresql", "sqlite"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, many: bool
) -> Iterator[tuple[str, str]]:
    """Dialect and URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield request.param, f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'site.sqlite'}"
        return
    server = request.getfixturevalue(
        {"postgresql": "postgres", "mysql": "logged_mariadb"}[request.param]
    )
    yield request.param, server.create_database("all_types")
    server.drop_database("all_types")


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.long)])
def many(request: pytest.FixtureRequest) -> bool:
    """Whether types are tried in all of their forms, and not in the common ones."""
    return bool(request.param)


@pytest.fixture(scope="module")
def everything(database: tuple[str, str], many: bool) -> Iterator[Everything]:
    """Tables with every type and its borders."""
    with with_every_type(*database, many) as made:
        yield made
