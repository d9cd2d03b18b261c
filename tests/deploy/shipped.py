"""Files of deploy/ with the paths and ports of a test in the place of those that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stack.process import REPOSITORY

__all__ = ["DEPLOY", "filled_in", "without_ipv6"]

DEPLOY = REPOSITORY / "deploy"


def filled_in(name: str, places: Mapping[str, str]) -> str:
    """The text of deploy/NAME, with each key of `places` replaced. Each must be there: a test that
    replaces nothing would run with what is on this machine."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in places.items():
        assert old in text, f"deploy/{name} does not name {old}"
        text = text.replace(old, new)
    return text


def without_ipv6(text: str) -> str:
    """Without the `listen` lines for [::], which not every machine has."""
    return re.sub(r"(?m)^ *listen \[::\]:.*\n", "", text)
