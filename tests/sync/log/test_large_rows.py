"""However large the rows of a transaction are, few of them are in memory."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sync.apply import apply as really_apply
from bridge.sync.log import capture
from tests.sync.log.site import LogSite


def test_large_rows_are_written_few_at_a_time(
    log_site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def apply(database: Any, mirror: Any, events: Any) -> Any:
        sizes.append(sum(len(one.data["title"]) for one in events))
        return really_apply(database, mirror, events)

    monkeypatch.setattr("bridge.sync.log.capture.apply", apply)
    monkeypatch.setattr(capture, "MOST_BYTES", 20_000)
    log_site.sql("ALTER TABLE projects MODIFY title TEXT")
    log_site.load()
    with log_site.capturing():
        log_site.sql(
            "INSERT INTO projects SELECT CONCAT('p', seq), REPEAT('x', 5000), 1 FROM seq_1_to_60"
        )
        log_site.caught_up()

        assert len(sizes) >= 10
        assert max(sizes) <= 30_000
        assert sum(sizes) == 60 * 5000
        assert log_site.is_equal()
