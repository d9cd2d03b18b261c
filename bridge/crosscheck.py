"""Whether routes.yaml and sync.yaml fit each other: what one names, the other must have.

Pure: the checked files in, problems with their places out.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.errors import Problem
from bridge.proxy.routing.table import RouteTable
from bridge.yamlfile import YamlFile, did_you_mean

__all__ = ["misfits"]


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
