"""What tests of the engine need: a legacy server that they can tell what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.http.double import Backend


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend
