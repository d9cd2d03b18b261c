"""The triggers as `bridgectl doctor` sees them: what is missing, what may not be made, what is not
seen. Only asks."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway
from bridge.findings import Finding
from bridge.queue.sql.outbox import Outbox
from bridge.sync.documents import Mirror
from bridge.sync.triggers.commands import Triggers
from bridge.sync.triggers.noted import with_triggers

__all__ = ["findings"]

_SAYS = {
    "missing": "changes are not noted: triggers are missing",
    "outdated": "triggers are not today's",
    "no base": "triggers are there, and bridge_versions has no base version",
}


def findings(engine: sql.Engine, mirror: Mirror, outbox: Outbox) -> Iterator[Finding]:
    """Of every entity that needs triggers; nothing where none does. Raises ServerAway."""
    triggers = Triggers(engine, mirror, outbox)
    for name in with_triggers(mirror):
        try:
            state = next(one for one in triggers.check([name]) if one.entity == name)
        except ServerAway:
            raise
        except BridgeError as error:
            yield Finding("bad", "triggers", name, str(error))
            continue
        where = f"{name} ({state.table})"
        if not state.good:
            says = _SAYS.get(state.state, state.state)
            yield Finding("bad", "triggers", where, says, state.do)
        else:
            yield Finding("ok", "triggers", where, "every change is noted")
        for one in state.unseen:
            what, _, do = one.partition(": ")
            yield Finding("note", "triggers", where, f"no trigger sees {what}", do)
        if state.unproven:
            yield Finding(
                "note",
                "triggers",
                where,
                "MySQL is what these triggers were written for, and never tried with: unproven",
                "try them on a copy of the site; MariaDB 10.11 is proven",
            )
