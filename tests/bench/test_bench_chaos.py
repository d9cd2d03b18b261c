"""The chaos run: nothing is wrong or missing, and it would be seen if it were."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from bench.chaos import Chaos
from bench.chaos_harms import HARMS, Step, plan
from bench.chaos_pages import OWN_PAGE, Answer, Question, complaint, digest, page
from stack.bridge import BridgeServe

QUESTION = Question("GET", "/python/1-2?size=300&framing=length", ("legacy", "python"))
NONE: frozenset[str] = frozenset()


def answer(side: str = "python", question: Question = QUESTION, **headers: str) -> Answer:
    """The right one of this side, with further headers."""
    body = page(side, question.method, question.target, digest(question.body))
    named = {"x-side": side, "x-target": question.target}
    return Answer(200, {**named, **headers}, body, whole=True)


def own(status: int, said: int | None = None) -> Answer:
    text = OWN_PAGE.replace("$status", str(said or status)).replace("$request_id", "abc-1")
    return Answer(status, {}, text.encode(), whole=True)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_no_answer_is_wrong_or_missing_while_everything_is_broken(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    found = Chaos(tmp_path, 15, seed).run()
    assert found.checked > 100
    assert {"legacy 200", "python 200"} <= set(found.kinds)
    assert not found.examples, (seed, found.examples)
    assert (found.wrong, found.missing) == (0, 0)


class Damaged(BridgeServe):
    """A proxy that is damaged before it starts."""

    damage: ClassVar[str] = ""

    def command(self) -> Sequence[str]:
        python, _, _, *words = super().command()
        start = "from bridge.cli import main\nmain()"
        return [python, "-c", f"{self.damage}\n{start}", *words]


class Swapped(Damaged):
    """Now and then, who asks a handler gets what another one gets, too."""

    damage = """
from bridge.proxy.python.threads import Answer
take, last = Answer.take, [[b"x"]]
def damaged(self):
    pieces, ended, error = take(self)
    if pieces:
        pieces, last[0] = last[0], pieces
    return pieces, ended, error
Answer.take = damaged
"""


class Unfinished(Damaged):
    """A page that breaks off looks whole."""

    damage = """
from bridge.proxy.engine.reply import Reply
def damaged(self, reason):
    self._left = None
    self.on_end([])
Reply.cut = damaged
"""


class Careless(Damaged):
    """A connection goes on to be used on which an answer is still to come."""

    damage = """
from bridge.proxy.engine.upstream import Upstream
give_back = Upstream.give_back
def damaged(self, connection, *, keep):
    give_back(self, connection, keep=True)
Upstream.give_back = damaged
"""


class Silent(Damaged):
    """Who cannot be helped is told nothing."""

    damage = """
from bridge.proxy.engine.reply import Reply
Reply.own = lambda self, page: self.cut("damaged")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("serve", "way", "kind"),
    [
        (Swapped, "slow", "wrong"),
        (Unfinished, "cut", "wrong"),
        (Careless, "late", "wrong"),
        (Silent, "close", "missing"),
    ],
)
@pytest.mark.timeout(100)
def test_a_damaged_proxy_is_found_out(
    tmp_path: Path, serve: type[BridgeServe], way: str, kind: str
) -> None:
    steps = [Step(0.2, "legacy", way, 4.0, 1)]
    found = Chaos(tmp_path, 5, 1, serve=serve, steps=steps).run()
    assert getattr(found, kind) > 0, found
    assert found.examples


@pytest.mark.slow
@pytest.mark.parametrize("way", ["slow", "cut", "late", "close"])
@pytest.mark.timeout(100)
def test_a_proxy_that_is_not_damaged_is_not(tmp_path: Path, way: str) -> None:
    """The same harm as above."""
    steps = [Step(0.2, "legacy", way, 2.0, 1)]
    found = Chaos(tmp_path, 3, 1, steps=steps).run()
    assert (found.wrong, found.missing) == (0, 0), found.examples


def test_the_same_seed_breaks_the_same() -> None:
    first, again, other = (plan(random.Random(seed), 60) for seed in (1, 1, 2))
    assert first == again != other


def test_all_is_broken_sooner_or_later_and_nothing_twice_at_once() -> None:
    steps = plan(random.Random(1), 2000)
    assert {(one.part, one.way) for one in steps} == {(a, b) for a in HARMS for b in HARMS[a]}
    for part in HARMS:
        ends = 0.0
        for step in (one for one in steps if one.part == part):
            assert step.at >= ends
            ends = step.at + step.lasts
            assert ends <= 2000


@pytest.mark.parametrize("side", ["legacy", "python"])
def test_the_page_of_either_side_is_right(side: str) -> None:
    assert complaint(QUESTION, answer(side), NONE) == ("", "")


WRONG = {
    "another body": answer("python", Question("GET", "/python/1-3", ("python",))),
    "another's headers": answer(**{"x-target": "/python/1-3"}),
    "the other side's headers": answer(**{"x-side": "legacy"}),
    "two tables": answer(**{"x-table": "3", "x-row": "4"}),
    "a page that is cut and looks whole": Answer(
        200, answer().headers, answer().body[:-1], whole=True
    ),
    "more than the page": Answer(200, answer().headers, answer().body + b"x", whole=True),
    "a part of another page": Answer(200, {}, b"python GET /python/1-3"),
    "an error without a cause": own(502),
    "another's error page": own(502, 504),
    "an error page that is not ours": Answer(502, {}, b"<h1>Bad gateway", whole=True),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_seen(name: str) -> None:
    assert complaint(QUESTION, WRONG[name], NONE)[0] == "wrong"


@pytest.mark.parametrize(
    "name", [one for one in WRONG if one not in ("an error without a cause", "two tables")]
)
def test_no_trouble_excuses_a_wrong_answer(name: str) -> None:
    everything = frozenset({"legacy", "handlers", "routes", "workers"})
    assert complaint(QUESTION, WRONG[name], everything)[0] == "wrong"


def test_a_page_of_python_is_wrong_where_only_legacy_may_answer() -> None:
    question = Question("GET", QUESTION.target, ("legacy",))
    assert complaint(question, answer("python"), NONE)[0] == "wrong"


@pytest.mark.parametrize("lost", [Answer(), Answer(200, {}, answer().body[:9]), Answer(late=True)])
def test_an_answer_that_does_not_end_is_missing(lost: Answer) -> None:
    assert complaint(QUESTION, lost, NONE)[0] == "missing"


def test_only_a_killed_worker_takes_an_answer_along() -> None:
    assert complaint(QUESTION, Answer(), frozenset({"workers"})) == ("", "")
    assert complaint(QUESTION, Answer(), frozenset({"legacy", "handlers"}))[0] == "missing"


def test_a_hang_is_missing_whatever_is_broken() -> None:
    everything = frozenset({"legacy", "handlers", "routes", "workers"})
    assert complaint(QUESTION, Answer(late=True), everything)[0] == "missing"


def test_an_error_of_ours_is_right_while_its_cause_lasts() -> None:
    form = Question("POST", "/form/1-1", ("legacy", "python"))
    assert complaint(QUESTION, own(502), frozenset({"legacy"})) == ("", "")
    assert complaint(form, own(500), frozenset({"handlers"})) == ("", "")
    # Legacy answers a GET that a handler fails.
    assert complaint(QUESTION, own(500), frozenset({"handlers"}))[0] == "wrong"
    assert complaint(QUESTION, own(500), frozenset({"legacy"}))[0] == "wrong"
