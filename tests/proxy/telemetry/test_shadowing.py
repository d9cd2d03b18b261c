"""Whether a shadow is wanted and lives, as its parent and its operators see it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bridge.proxy.telemetry import scrape, shadowing
from bridge.proxy.telemetry.metrics import Metrics, State
from tests.proxy.site import route, table

WITH = table(route("page", "/page", more="shadow: {share: 5%}"))
WITHOUT = table(route("page", "/page"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    scrape.prepare(tmp_path)
    shadowing.prepare(tmp_path)
    return tmp_path


def grows_old(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_it_is_wanted_while_a_table_has_something_to_compare(state: Path) -> None:
    assert not shadowing.is_wanted(state)
    for made, wanted in ((WITH, True), (WITH, True), (WITHOUT, False), (WITHOUT, False)):
        shadowing.want(state, made)
        assert shadowing.is_wanted(state) is wanted


def test_it_is_silent_when_its_last_sign_is_older_than_it_said(state: Path) -> None:
    pid = os.getpid()
    assert not shadowing.is_silent(state, pid, since=30.0)  # it may still be starting
    assert shadowing.is_silent(state, pid, since=100.0)
    alive = shadowing.Alive(state)
    alive.beat(20.0)
    sign = state / "shadow" / str(pid)
    for age, silent in ((19.0, False), (25.0, True)):
        grows_old(sign, age)
        assert shadowing.is_silent(state, pid, since=100.0) is silent
    alive.beat(20.0)
    assert not shadowing.is_silent(state, pid, since=100.0)


def test_operators_are_told_when_none_lives_for_long(state: Path) -> None:
    assert shadowing.trouble(state) == ""
    shadowing.want(state, WITH)
    assert shadowing.trouble(state) == ""
    grows_old(state / "shadow.wanted", 40.0)
    assert "no sign of life for 40 s" in shadowing.trouble(state)
    shadowing.Alive(state).beat(20.0)
    assert shadowing.trouble(state) == ""
    shadowing.want(state, WITHOUT)
    grows_old(state / "shadow" / str(os.getpid()), 40.0)
    assert shadowing.trouble(state) == ""


def test_signs_of_dead_ones_are_removed_by_the_next(state: Path) -> None:
    (state / "shadow").mkdir()
    (state / "shadow" / "999999999").write_text("20")
    shadowing.Alive(state).beat(20.0)
    assert [path.name for path in (state / "shadow").iterdir()] == [str(os.getpid())]


def test_what_it_and_the_workers_count_is_in_one_scrape(state: Path) -> None:
    worker = Metrics(state, 0)
    worker.state(State(0, 0, 0, {}, {}, copies={("page", "sent"): 3}))
    worker.state(State(0, 0, 0, {}, {}, copies={("page", "sent"): 5}))
    tallies = shadowing.Tallies(state)
    for kind in ("same", "same", "different"):
        tallies.add(scrape.SHADOW, "page", kind)
    tallies.set(scrape.SHADOW_WAITING, 7)
    said = scrape.scrape(state).decode()
    assert 'bridge_shadow_copies_total{result="sent",route="page"} 5.0' in said
    assert 'bridge_shadow_total{kind="same",route="page"} 2.0' in said
    assert "bridge_shadow_waiting 7.0" in said
    worker.close()
    tallies.close()
