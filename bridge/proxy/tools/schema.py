"""The JSON Schema of routes.yaml, for editors; generated from the models.

`bridgectl schema` prints it; `routes.schema.json` beside this module is the same text, kept in
step by a test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.proxy.routing.models import File

__all__ = ["FILE", "text"]

FILE = Path(__file__).with_name("routes.schema.json")


def text() -> str:
    """The schema as JSON, with a last newline."""
    schema = File.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "routes.yaml of the PHP–Python bridge"
    _drop_parsed_defaults(schema)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _drop_parsed_defaults(node: Any) -> None:
    """Defaults are seconds and bytes in the models but `2s` and `64KiB` in the file."""
    if isinstance(node, dict):
        default = node.get("default")
        parsed = isinstance(default, int | float | dict) and not isinstance(default, bool)
        if parsed and node.get("type") != "integer":
            node.pop("default")
        for value in node.values():
            _drop_parsed_defaults(value)
    elif isinstance(node, list):
        for value in node:
            _drop_parsed_defaults(value)
