"""What `bridgectl doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `state` is ok, bad or note; `do` says what to do about it."""

    state: str
    what: str
    where: str
    says: str
    do: str = ""
