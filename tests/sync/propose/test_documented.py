"""The docs say of types what the rules do."""

from __future__ import annotations

from bridge.sync.propose.documented import between, table
from bridge.sync.types.rules import RULES
from stack.process import REPOSITORY

PAGE = REPOSITORY / "docs" / "sync-yaml.md"


def test_the_table_of_types_in_the_docs_is_in_step() -> None:
    """If this fails: put what `bridgectl schema types` prints between the two marks."""
    assert between(PAGE.read_text(encoding="utf-8")).strip() == table().strip()


def test_every_type_that_has_a_rule_is_in_the_table() -> None:
    """By its name, or as one of all that are left."""
    printed = table()
    for family in RULES:
        for name in family.types:
            assert name in ("", "…") or f"`{name}`" in printed
