"""Which entities a snapshot loads, and telling running ones to wait."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.errors import BridgeError, ServerAway
from bridge.settings import Settings
from bridge.sync import apply as mongodb
from bridge.sync.documents import Mirror
from bridge.sync.server_errors import mongodb_missing
from bridge.sync.snapshot import checkpoint
from bridge.sync.state import State
from bridge.yamlfile import did_you_mean

__all__ = ["choose", "pause"]


def choose(mirror: Mirror, names: Sequence[str]) -> list[str]:
    """The entities to load: those named, or all that have a source. Raises BridgeError."""
    for name in names:
        if name not in mirror.entities:
            hint = did_you_mean(name, mirror.entities) or f"it has: {', '.join(mirror.entities)}"
            raise BridgeError(f"sync.yaml has no entity {name}; {hint}")
        if (parent := mirror.parent_of.get(name)) is not None:
            raise BridgeError(f"{name} comes with its {parent}: bridgectl snapshot {parent}")
    if names:
        return list(dict.fromkeys(names))
    found = [
        name
        for name, entity in mirror.entities.items()
        if entity.source is not None and name not in mirror.parent_of
    ]
    if not found:
        raise BridgeError(
            "there is nothing to load: sync.yaml has no entity with a source; write the table, "
            "its key and its version under `entities: NAME: source:`"
        )
    return found


def pause(settings: Settings, names: Sequence[str], *, paused: bool) -> dict[str, bool]:
    """Tell the snapshots of these entities, of all by default, to wait or to go on; for each,
    whether there is one that is not done. Raises ServerMissing."""
    mirror = Mirror.of(settings)
    with mongodb.connect(settings.mongodb_url) as client:
        state = State(client.get_default_database())
        try:
            return {
                name: checkpoint.pause(state, name, paused=paused) for name in choose(mirror, names)
            }
        except ServerAway as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
