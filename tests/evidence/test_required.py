"""A flip asks for evidence, and says how much of it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import FlipRefused
from bridge.evidence.differences.found import Counts
from bridge.evidence.differences.store import Evidence
from bridge.evidence.required import WITHOUT, Required, missing, says
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.routing.table import RouteTable
from bridge.settings import Settings
from tests.evidence.differences.notes import note
from tests.proxy.site import TOP, VIEW


@pytest.mark.parametrize(
    ("counts", "limit", "text"),
    [
        (Counts(), 0.001, "nothing was compared; 2,995 that are the same are needed"),
        (
            Counts(same=120),
            0.001,
            "0 of 120 compared were different: under 2.5% at 95%; 2,875 more that are the same are "
            "needed, or 4,622 with one more that is different",
        ),
        (Counts(same=290, noise=5, lag=5), 0.01, ""),
        (
            Counts(same=9, different=1),
            0.05,
            "1 of 10 compared were different: under 40% at 95%; mend what is different first: "
            "`bridgectl differences` shows it",
        ),
        (Counts(declined=5000, not_compared=5000), 0.5, "nothing was compared; 5 that are the"),
    ],
)
def test_what_is_missing_is_said(counts: Counts, limit: float, text: str) -> None:
    said = missing(counts, limit)
    assert said.startswith(text)
    assert bool(said) == bool(text)


@given(st.integers(0, 3000), st.integers(0, 3), st.sampled_from([0.001, 0.01, 0.1]))
def test_as_many_as_are_said_are_enough_and_one_less_is_not(
    same: int, different: int, limit: float
) -> None:
    said = missing(Counts(same=same, different=different), limit)
    if " more that are the same" not in said:
        return
    more = int(said.split(" more that")[0].split("; ")[1].replace(",", ""))
    other = int(said.split(", or ")[1].split(" ")[0].replace(",", ""))

    assert missing(Counts(same=same + more - 1, different=different), limit)
    assert not missing(Counts(same=same + more, different=different), limit)
    assert missing(Counts(same=same + other - 2, different=different + 1), limit)
    assert not missing(Counts(same=same + other - 1, different=different + 1), limit)


def test_a_single_difference_is_no_bound() -> None:
    assert says(Counts(different=1)) == "1 of 1 compared were different"


ROUTES = f"""\
{TOP.replace("groups:", "flips: {require: different<1%}" + chr(10) + "groups:")}
  - {{name: list, path: /l, handler: "{VIEW}", group: pages}}
  - {{name: detail, path: /d, handler: "{VIEW}", group: pages}}
  - {{name: save, path: /s, methods: [POST], handler: "{VIEW}", python: 0%}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    return Settings.from_environ(
        {"BRIDGE_ROUTES": str(tmp_path / "routes.yaml"), "BRIDGE_RELEASE": "r1"}
    )


@pytest.fixture
def table(settings: Settings) -> RouteTable:
    return load(settings.routes, handlers=Handlers.NAMED)


def _compared(settings: Settings, route: str, many: int, **more: str) -> None:
    evidence = Evidence(settings.state_dir)
    for _ in range(many):
        evidence.note(note(route=route, **({"rules": ""} | more)))
    evidence.close()


def test_each_route_of_a_group_needs_it(settings: Settings, table: RouteTable) -> None:
    _compared(settings, "list", 300)
    _compared(settings, "detail", 100)

    with pytest.raises(FlipRefused) as refused:
        Required(settings)(table, ["list", "detail"])
    said = str(refused.value)
    assert "no evidence yet that different<1%, of release r1; nothing was changed" in said
    assert "detail: 0 of 100 compared were different: under 3% at 95%; 199 more" in said
    assert "list:" not in said
    assert "--without-evidence" in said


def test_what_speaks_for_it_is_noted(settings: Settings, table: RouteTable) -> None:
    _compared(settings, "list", 299)
    noted = Required(settings)(table, ["list"])

    assert noted == "list 0 of 299 compared were different: under 1% at 95% (release r1)"


@pytest.mark.parametrize("more", [{"release": "r0"}, {"rules": "others"}])
def test_evidence_of_something_else_does_not_count(
    settings: Settings, table: RouteTable, more: dict[str, str]
) -> None:
    _compared(settings, "list", 299, **more)

    with pytest.raises(FlipRefused, match="nothing was compared"):
        Required(settings)(table, ["list"])


def test_the_stricter_rule_counts(settings: Settings, table: RouteTable) -> None:
    _compared(settings, "list", 299)

    assert Required(settings, 0.5)(table, ["list"])
    with pytest.raises(FlipRefused, match=r"different<0\.1%"):
        Required(settings, 0.001)(table, ["list"])


def test_a_route_that_is_never_compared_needs_courage(
    settings: Settings, table: RouteTable
) -> None:
    with pytest.raises(FlipRefused, match="save: takes POST only, which is never compared"):
        Required(settings)(table, ["save"])
    assert Required(settings, without=True)(table, ["save"]) == WITHOUT
