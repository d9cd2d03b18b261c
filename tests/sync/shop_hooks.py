"""Hooks that a sync.yaml of the tests names."""

from __future__ import annotations

from typing import Any


def odd(data: dict[str, Any], event: Any) -> dict[str, Any]:
    """What `data["hook"]` asks for."""
    if data.get("hook") == "fails":
        raise ValueError("no such shelf")
    if data.get("hook") == "unknown type":
        return {"value": object()}
    if data.get("hook") == "large number":
        return {"value": 2**70}
    if data.get("hook") == "deep":
        # The driver sends it, and MongoDB refuses the whole command.
        deepest: dict[str, Any] = {}
        for _ in range(250):
            deepest = {"d": deepest}
        return deepest
    return data
