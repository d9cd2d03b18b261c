"""sync.yaml: where changes come from. Every error at once, with line and column.

A missing file means: an outbox of the usual name in the database of BRIDGE_SQL_URL, if that is
set, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.errors import ConfigError, Problem
from bridge.queue.sources import Outbox, SqlQueue
from bridge.yamlfile import YamlFile

__all__ = ["SCHEMA", "File", "load", "schema_text"]

SCHEMA = Path(__file__).with_name("sync.schema.json")


class File(BaseModel):
    """All of sync.yaml.

    outbox: the table that PHP writes its changes to. spool: directories that it writes them to
    where it has no transaction. queues: SQL queue tables of the site's own, emptied into the
    outbox. lists: Redis lists that programs fill in the format of Kombu's stock transport.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    outbox: Outbox = Field(default_factory=Outbox)
    spool: list[str] = Field(default_factory=list)
    queues: list[SqlQueue] = Field(default_factory=list)
    lists: list[str] = Field(default_factory=list)


def load(path: Path) -> File:
    """Read sync.yaml. Raises ConfigError with every error of it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return File(version=1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), 0, 0, f"cannot be read: {error}")]) from None
    file = YamlFile.parse(text, str(path))
    try:
        return File.model_validate(file.data)
    except ValidationError as error:
        raise ConfigError(file.problems(error, File)) from None


def schema_text() -> str:
    """The JSON Schema for editors, with a last newline."""
    schema = File.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sync.yaml of the PHP–Python bridge"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
