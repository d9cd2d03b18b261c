"""What an operator can set and see is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.proxy.routing import models
from bridge.proxy.telemetry import scrape as samples
from stack.bridge import BridgeWsgi

DOCS = Path(__file__).resolve().parents[2] / "docs"
KINDS = [
    models.Backend, models.File, models.Group, models.Limits, models.RedirectLoops,
    models.Compression, models.Health, models.RequestHeaders,
    models.ResponseHeaders, models.Route, models.Site, models.Sticky, models.Timeouts,
]  # fmt: skip


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.__name__)
def test_every_key_of_routes_yaml_is_explained(model: type[models.Model]) -> None:
    text = (DOCS / "routes-yaml.md").read_text(encoding="utf-8")
    missing = [
        name
        for name in (one.alias or key for key, one in model.model_fields.items())
        if not any(form in text for form in (f"`{name}`", f"`{name}:", f"{{{name}:", f"`, `{name}"))
    ]
    assert missing == []


def test_every_metric_is_explained() -> None:
    text = (DOCS / "operators-guide.md").read_text(encoding="utf-8")
    names = [*samples.KINDS, samples.LAST_ERROR]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_command_for_gunicorn_is_the_one_that_the_tests_run() -> None:
    text = (DOCS / "operators-guide.md").read_text(encoding="utf-8")
    (command,) = [line for line in text.splitlines() if line.startswith("gunicorn ")]
    words = command.split()
    assert words[-1] == "bridge.wsgi:application"
    assert [word for word in words if word.startswith(("--forwarded", "--limit"))] == [
        *BridgeWsgi.documented
    ]
