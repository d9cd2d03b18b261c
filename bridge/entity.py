"""How an entity may be named: in routes.yaml, in sync.yaml, in events and in cookies."""

import re

__all__ = ["ENTITY"]

ENTITY = re.compile(r"[a-z][a-z0-9_]{0,63}")
