"""A key stays in doubt until what it was named for can be seen."""

from __future__ import annotations

import pytest
import structlog

from bridge.sync.reconcile.doubtful import Doubtful
from tests.sync.log.site import LogSite


@pytest.mark.parametrize(("visible", "left"), [(0.0, 0), (1000.0, 1)])
def test_what_is_equal_is_looked_at_again_until_all_can_be_seen(
    log_site: LogSite, visible: float, left: int
) -> None:
    """The log tells of a transaction a moment before others see its rows."""
    log_site.projects("vim")
    log_site.load()
    told: list[tuple[str, str, str]] = []
    doubtful = Doubtful(
        log_site.settings.sql_url,
        log_site.database,
        lambda: log_site.mirror,
        ["project"],
        lambda *what: told.append(what),
        structlog.get_logger(),
        visible=visible,
    )

    doubtful.doubt("project", "vim")
    assert repr(doubtful) == "<Doubtful: 1 in doubt of project>"
    doubtful.look()

    assert doubtful.size == left
    log_site.unlogged("UPDATE projects SET title = 'seen now'")
    for _ in range(3):
        doubtful.look()
    assert told == [("project", "vim", "differing")] * left
    assert doubtful.size == 0
