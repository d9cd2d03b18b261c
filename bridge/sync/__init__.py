"""Make MongoDB say what the PHP side's database says, and prove that it does.

Handlers read through `Store`; everything else is for the worker and the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.sync.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    # Who reads the mirror needs MongoDB's driver; who only imports a module beside it does not.
    if name == "Store":
        from bridge.sync.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
