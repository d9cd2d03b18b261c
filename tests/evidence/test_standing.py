"""What was compared of the release that runs now is shown to operators."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.evidence.differences.file import NAME
from bridge.evidence.differences.store import Evidence
from bridge.evidence.standing import Standing, metrics, scraped, standing
from bridge.settings import Settings
from tests.evidence.differences.notes import note
from tests.proxy.site import TOP, VIEW

ROUTES = f"""\
{TOP}  - {{name: project, path: /p, handler: "{VIEW}", python: 0%}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    return Settings.from_environ({"BRIDGE_ROUTES": str(tmp_path / "routes.yaml")})


def test_evidence_stands_for_the_release_of_the_files_as_they_are(settings: Settings) -> None:
    now = standing(settings)
    evidence = Evidence(settings.state_dir)
    for _ in range(300):
        evidence.note(note(release=now.release, rules=now.rules))
    evidence.note(note("different", release="another"))
    evidence.close()

    found = standing(settings)
    assert found.counts["project"].compared == 300
    assert found.upper_bound("project") == pytest.approx(0.009936, rel=1e-3)
    assert found.upper_bound("other") is None


def test_metrics_have_each_kind_and_the_bound(settings: Settings) -> None:
    now = standing(settings)
    evidence = Evidence(settings.state_dir)
    evidence.note(note("different", release=now.release, rules=now.rules))
    evidence.note(note("not-compared", route="list", release=now.release, rules=now.rules))
    evidence.close()

    lines = scraped(settings).decode().splitlines()
    assert 'bridge_compared_total{kind="different",route="project"} 1.0' in lines
    assert 'bridge_compared_total{kind="not-compared",route="list"} 1.0' in lines
    assert 'bridge_different_upper_bound{route="project"} 1.0' in lines
    assert not any("upper_bound" in line and "list" in line for line in lines)


def test_without_evidence_there_are_no_metrics(settings: Settings) -> None:
    assert metrics(Standing("r1", "")) == b""
    assert scraped(settings) == b""


def test_what_cannot_be_read_does_not_end_a_scrape(settings: Settings) -> None:
    settings.state_dir.mkdir()
    (settings.state_dir / NAME).mkdir()

    assert scraped(settings) == b""
