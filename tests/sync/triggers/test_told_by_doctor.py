"""What `bridgectl doctor` says of triggers."""

from __future__ import annotations

from pathlib import Path

from bridge.doctor import _outbox
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.settings import Settings
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.triggers.commands import Triggers

SYNC = "version: 1\nentities: {post: {collection: posts, source: {table: posts, key: id}}}\n"


def test_a_trigger_that_is_gone_is_bad_news(tmp_path: Path) -> None:
    """With the command that makes it anew."""
    sync = tmp_path / "sync.yaml"
    sync.write_text(SYNC)
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE posts (id INTEGER PRIMARY KEY, n INT)")
    Triggers(engine, Mirror(load(sync)), Outbox(engine)).apply([])
    settings = Settings(
        tmp_path / "routes.yaml", "", "", tmp_path, sync=sync, sql_url=url, uses_mongodb=False
    )

    def said() -> list[tuple[str, str]]:
        return [(one.state, one.do) for one in _outbox(settings) if one.what == "triggers"]

    assert said() == [("ok", "")]
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER bridge_post_u")
    [(state, do)] = said()
    assert state == "bad"
    assert "bridgectl sync triggers" in do
    engine.dispose()
