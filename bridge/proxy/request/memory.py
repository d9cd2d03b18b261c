"""Memory for what visitors send again and again, with a bound that they cannot move. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

__all__ = ["remember"]

F = TypeVar("F", bound=Callable[..., Any])


def remember(size: int, longest: int) -> Callable[[F], F]:
    """Remember `size` results of a function whose last argument is a text or bytes; what is longer
    than `longest` is worked out each time."""

    def decorate(function: F) -> F:
        known: Any = lru_cache(maxsize=size)(function)

        def ask(*given: Any) -> Any:
            return known(*given) if len(given[-1]) <= longest else function(*given)

        return ask  # type: ignore[return-value]

    return decorate
