"""Whether routes.yaml and sync.yaml fit each other: what one names, the other must have.

Pure: the checked files in, problems with their places out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bridge.errors import Problem
from bridge.proxy.routing.table import RouteTable
from bridge.sync.models import Entity
from bridge.yamlfile import YamlFile, did_you_mean

__all__ = ["misfits", "unasked"]


def misfits(table: RouteTable, name: str, entities: Collection[str]) -> list[Problem]:
    """Entities that routes say they read and sync.yaml does not mirror.

    name: of routes.yaml. entities: those of sync.yaml.
    """
    yaml = YamlFile.parse(table.text, name)
    problems = []
    for index, route in enumerate(table.routes):
        for number, entity in enumerate(route.spec.reads):
            if entity not in entities:
                known = ", ".join(sorted(entities)) or "none"
                hint = did_you_mean(entity, entities) or f"entities of sync.yaml: {known}"
                text = f"route `{route.name}` reads `{entity}`, which sync.yaml does not mirror"
                problems.append(yaml.problem(("routes", index, "reads", number), text, hint))
    return problems


def unasked(table: RouteTable, name: str, entities: Mapping[str, Entity]) -> list[Problem]:
    """Routes with `writes: true`, which does nothing where no entity comes from the database's log.

    name: of routes.yaml. entities: those of sync.yaml.
    """
    if any(one.source is not None and one.source.log is True for one in entities.values()):
        return []
    yaml = YamlFile.parse(table.text, name)
    return [
        yaml.problem(
            ("routes", index, "writes"),
            f"route `{route.name}` has `writes: true`, which does nothing: no entity of sync.yaml "
            "comes from the database's log, so that nobody is asked how far it is",
            "remove it, or write `log: true` in sync.yaml under `source:` of what PHP writes there",
        )
        for index, route in enumerate(table.routes)
        if route.spec.writes
    ]
