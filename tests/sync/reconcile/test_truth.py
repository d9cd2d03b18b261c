"""The lie detector: whatever is damaged on either side is told, and nothing else is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from pymongo.database import Database

from bench.truth import Case, Tally, cases, judge
from bench.truth_documents import documents
from bench.truth_rows import rows
from bench.truth_scenes import SHAPES, Scene, Shape
from bridge.queue.broker.publisher import Publisher
from bridge.settings import Settings
from bridge.sync.doubts import TOLD
from bridge.sync.reconcile import deep, sides
from bridge.sync.reconcile.repair import Repair
from bridge.sync.worker import run_worker
from stack.waiting import wait_for
from tests.sync.reconcile.site import in_background

OpenScene = Callable[..., Scene]


def _some(*shapes: str) -> list[Any]:
    """All shapes; only these in the short run."""
    return [
        shape if shape in shapes else pytest.param(shape, marks=pytest.mark.long)
        for shape in SHAPES
    ]


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, clean_mongodb: Database[dict[str, Any]], tmp_path: Path
) -> Iterator[OpenScene]:
    """scene(shape, database): both sides, equal."""
    opened = []

    def open_scene(shape: str, database: str = "sqlite") -> Scene:
        fixture = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}.get(database)
        path = tmp_path / "site.sqlite"
        url = request.getfixturevalue(fixture) if fixture else f"sqlite:///{path}"
        opened.append(Scene.open(url, clean_mongodb, tmp_path, SHAPES[shape]))
        return opened[-1]

    yield open_scene
    for one in opened:
        one.engine.dispose()


def judged(scene: Scene, some: list[Case]) -> Tally:
    """What comes of these cases, one after the other."""
    tally = Tally()
    for case in some:
        judge(scene, case, tally, scene.dialect)
    return tally


@pytest.mark.parametrize("shape", _some("number", "beside", "child"))
def test_every_damage_is_found_and_nothing_else(scene: OpenScene, shape: str) -> None:
    some = [case for case in cases(short=True) if case.shape == shape]

    tally = judged(scene(shape), some)

    assert (tally.missed, tally.false) == ([], [])
    assert tally.kinds.total() > 20


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database", ["mariadb", "postgresql", "sqlite"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_damage_is_found_in_every_database(
    scene: OpenScene, shape: str, database: str
) -> None:
    tally = judged(scene(shape, database), list(cases([shape])))

    assert (tally.missed, tally.false) == ([], [])
    assert tally.kinds.total() > 200


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_row_that_a_damage_may_add_has_a_key_of_its_own(shape: Shape) -> None:
    numbers = range(1000)
    texts = [shape.text(shape.key(number)) for number in numbers]

    assert len(set(texts)) == len(numbers)


def test_no_two_damages_have_the_same_name() -> None:
    names = Counter(damage.name for damage in [*documents(), *rows()])

    assert len(names) >= 200
    assert [name for name, count in names.items() if count > 1] == []


def test_a_comparison_that_sees_nothing_is_found_out(
    scene: OpenScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    [case] = [case for case in cases(["number"]) if str(case) == "price: double, number, 3"]
    monkeypatch.setattr(deep, "differences", lambda *documents: [])

    tally = judged(scene("number"), [case])

    assert len(tally.missed) == 4  # equal, and each of the three keys
    assert tally.false == []


def test_a_comparison_that_sees_too_much_is_found_out(
    scene: OpenScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    [case] = [
        case for case in cases(["number"]) if str(case) == "another order of fields, number, 3"
    ]
    monkeypatch.setattr(sides, "tombstone_fault", lambda *found, **how: "none")

    tally = judged(scene("number"), [case])

    assert tally.missed == []
    assert len(tally.false) == 8  # unequal, and each of the three tombstones, twice


@pytest.mark.parametrize("shape", _some("word", "flagged"))
def test_what_can_be_repaired_is_and_no_living_row_is_harmed(
    scene: OpenScene, shape: str, redis_url: str, mongodb_url: str, tmp_path: Path
) -> None:
    here = scene(shape)
    some = [case for case in cases(short=True) if case.shape == shape]
    check_repairs(here, some, redis_url, mongodb_url, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("database", ["mariadb", "sqlite"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_that_can_be_repaired_is(
    scene: OpenScene, shape: str, database: str, redis_url: str, mongodb_url: str, tmp_path: Path
) -> None:
    some = [case for case in cases([shape]) if case.size > 1 or case.damage.sizes == (1,)]
    check_repairs(scene(shape, database), some, redis_url, mongodb_url, tmp_path)


def check_repairs(
    here: Scene, some: list[Case], redis_url: str, mongodb_url: str, folder: Path
) -> None:
    """Damage, repair while a worker runs, and look at both sides."""
    settings = Settings(
        folder / "routes.yaml",
        redis_url,
        mongodb_url,
        folder,
        sync=folder / f"{here.shape.name}.yaml",
        sql_url=here.engine.url.render_as_string(hide_password=False),
    )

    def work(stop: Any) -> None:
        run_worker(settings, stop=stop, log=structlog.get_logger())

    repaired = 0
    with (
        Publisher(redis_url) as publisher,
        redis.Redis.from_url(redis_url) as client,
        in_background(work),
    ):
        for case in some:
            repaired += _repair(here, case, Repair(publisher))
            # What is sent and not applied yet would be written into the next case.
            wait_for(lambda: not client.xlen("bridge.events"), 15, "an empty queue")
            here.reset()
    assert repaired > 5


def _repair(here: Scene, case: Case, repair: Repair) -> bool:
    expected = case.damage.do(here, here.keys[: case.size])
    if not expected:
        return False
    buried = _buried(here)
    result = here.reconcile(repair=repair)
    assert not result.equal  # what was sent is not there yet
    if case.damage.repairable:
        try:
            wait_for(lambda: here.reconcile().equal, 15, f"{case}: to be repaired")
        except Exception as error:
            raise AssertionError(f"{case}: {here.reconcile()}") from error
    harmed = (_buried(here) - buried) & set(here.living())
    assert harmed == set(), f"{case}: living rows were buried"
    if case.damage.repairable:
        return True
    left = {one.key for one in result.differences}
    told = {key for key, kinds in expected.items() if key and kinds & {*TOLD, "ahead"}}
    assert told <= left, f"{case}: {told - left} are no longer told"
    return False


def _buried(here: Scene) -> set[str]:
    found = here.collection.find({"_id": {"$type": "string"}, "_del": True}, {"_id": 1})
    return {one["_id"] for one in found}
