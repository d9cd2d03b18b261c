"""Who is asked again, how often, and what becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from bridge.evidence.answers import Answer, Asked, Kind, Reads
from bridge.evidence.asking import NoAnswer
from bridge.evidence.comparers.difference import Differences, NotComparable
from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.comparers.noise import Settled, Way, settle
from bridge.evidence.order import Order
from bridge.proxy.routing import models

ASKED = Asked("GET", "/page", "forge.example")
NONE = Rules()
OLD: Reads = {("project", "bash"): 1}
NEW: Reads = {("project", "bash"): 2}


def html(text: str, reads: Reads | None = None) -> Answer:
    body = f"<!DOCTYPE html><title>t</title><p>{text}</p>".encode()
    return Answer.of(200, [("Content-Type", "text/html; charset=utf-8")], body, "OK", reads)


class Side:
    """Gives one answer after the other; the last one for ever. Counts how often it was asked."""

    def __init__(self, *answers: Answer | NoAnswer) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, asked: Asked) -> Answer:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


class Here:
    """Compares in this process."""

    def find(self, legacy: Answer, python: Answer, rules: Rules) -> Differences:
        return find(legacy, python, rules)

    def settle(
        self, *given: Any, known: Collection[Way] = (), more: Sequence[Answer] = ()
    ) -> Settled:
        return settle(*given, known=known, more=more)


def order(legacy: Side, python: Side, patience: float = 0.0) -> Order:
    return Order(legacy, python, Here(), patience)


def asked(*sides: Side) -> Sequence[int]:
    return [side.asked for side in sides]


def test_equal_answers_cost_legacy_one_request() -> None:
    legacy, python = Side(html("a")), Side(html("a", OLD))
    assert order(legacy, python).compare(ASKED, NONE).kind is Kind.SAME
    assert asked(legacy, python) == [1, 1]


def test_an_answer_that_is_here_already_is_not_asked_for() -> None:
    legacy, python = Side(html("never")), Side(html("a"))
    assert order(legacy, python).compare(ASKED, NONE, legacy=html("a")).kind is Kind.SAME
    assert asked(legacy, python) == [0, 1]


def test_what_legacy_does_not_answer_twice_alike_is_noise() -> None:
    legacy = Side(html("0123456789abcdef"), html("fedcba9876543210"))
    python = Side(html("00112233445566ff"), html("aabbccddeeff0011"))
    verdict = order(legacy, python).compare(ASKED, NONE)
    assert verdict.kind is Kind.NOISE
    assert [one.group for one in verdict.differences] == ["html > body > p"]
    assert asked(legacy, python) == [2, 2]


def test_dice_that_fall_alike_twice_are_known_from_other_requests() -> None:
    numbers = [html(f"{number} visits") for number in (111, 222, 333, 444, 555, 666, 777, 777)]
    legacy, python = Side(*numbers), Side(html("888 visits"))
    both = order(legacy, python)
    kinds = [both.compare(ASKED, NONE, route="page").kind for _ in range(4)]
    assert kinds == [Kind.NOISE] * 4
    assert order(Side(html("777 visits")), python).compare(ASKED, NONE).kind is Kind.DIFFERENT


def test_dice_that_fall_alike_twice_are_thrown_a_third_time() -> None:
    legacy = Side(html("71 visits"), html("71 visits"), html("35 visits"))
    verdict = order(legacy, Side(html("88 visits"))).compare(ASKED, NONE)
    assert (verdict.kind, legacy.asked) == (Kind.NOISE, 3)


def test_an_edit_is_no_way_in_which_a_page_differs() -> None:
    legacy = Side(html("10 files"), html("25 files"), html("25 files"))
    python = Side(html("9 files", OLD), html("25 files", NEW), html("10 files", OLD))
    both = order(legacy, python)
    assert both.compare(ASKED, NONE, route="page").kind in (Kind.LAG, Kind.NOISE)
    assert both.compare(ASKED, NONE, route="page").kind is Kind.DIFFERENT


def test_a_page_that_is_edited_often_does_not_hide_a_difference() -> None:
    pages = [html(f"{number} files") for number in (11, 22, 33, 44, 55, 66, 77)]
    both = order(Side(pages[0]), Side(pages[0]))
    for old, new in itertools.pairwise(pages):
        both.legacy = both.python = Side(new)
        assert both.compare(ASKED, NONE, route="page", legacy=old).kind is Kind.NOISE
    both.legacy, both.python = Side(html("88 files")), Side(html("99 files"))
    assert both.compare(ASKED, NONE, route="page").kind is Kind.DIFFERENT


def test_what_stays_is_different() -> None:
    legacy, python = Side(html("one word")), Side(html("other word", OLD))
    verdict = order(legacy, python).compare(ASKED, NONE)
    assert verdict.kind is Kind.DIFFERENT
    (difference,) = verdict.differences
    assert (difference.place, difference.what) == ("html > body > p", "changed")
    assert asked(legacy, python) == [3, 2]


def test_a_document_that_was_older_is_lag() -> None:
    legacy, python = Side(html("new")), Side(html("old", OLD), html("new", NEW))
    verdict = order(legacy, python).compare(ASKED, NONE)
    assert verdict.kind is Kind.LAG
    assert asked(legacy, python) == [2, 2]


def test_a_mirror_that_is_behind_for_longer_is_waited_for() -> None:
    legacy = Side(html("new"))
    python = Side(html("old", OLD), html("old", OLD), html("old", OLD), html("new", NEW))
    verdict = order(legacy, python, patience=10.0).compare(ASKED, NONE)
    assert verdict.kind is Kind.LAG
    assert asked(legacy, python) == [3, 4]


def test_what_is_another_answer_of_the_same_documents_is_different() -> None:
    legacy, python = Side(html("a")), Side(html("b", OLD), html("a", OLD))
    verdict = order(legacy, python).compare(ASKED, NONE)
    assert verdict.kind is Kind.DIFFERENT
    assert "of the same documents" in verdict.why


def test_a_difference_that_was_there_to_stay_is_not_waited_for_again() -> None:
    legacy, python = Side(html("a")), Side(html("b", OLD))
    both = order(legacy, python, patience=0.15)
    for _ in range(20):
        assert both.compare(ASKED, NONE, route="page").kind is Kind.DIFFERENT
    before = asked(legacy, python)
    assert before[0] == 60
    assert before[1] > 60
    assert both.compare(ASKED, NONE, route="page").kind is Kind.DIFFERENT
    assert asked(legacy, python) == [before[0] + 2, before[1] + 2]


def test_legacy_is_not_asked_again_where_the_route_forbids_it() -> None:
    legacy, python = Side(html("a")), Side(html("b"))
    verdict = order(legacy, python).compare(ASKED, NONE, again=False)
    assert (verdict.kind, asked(legacy, python)) == (Kind.DIFFERENT, [1, 1])
    assert "noise cannot be told" in verdict.why


@pytest.mark.parametrize("kind", [Kind.DECLINED, Kind.NOT_COMPARED])
def test_a_side_without_an_answer_is_said_and_is_no_difference(kind: Kind) -> None:
    verdict = order(Side(html("a")), Side(NoAnswer(kind, "not mine"))).compare(ASKED, NONE)
    assert (verdict.kind, verdict.why, verdict.differences) == (kind, "not mine", ())


def test_python_that_fails_where_legacy_answers_is_different() -> None:
    failed = NoAnswer(Kind.DIFFERENT, "python-error: no database", "python-error")
    verdict = order(Side(html("a")), Side(failed)).compare(ASKED, NONE)
    assert verdict.kind is Kind.DIFFERENT
    (difference,) = verdict.differences
    said = difference.group, difference.what, difference.legacy
    assert said == ("answer", "python-error", "200")


def test_what_cannot_be_compared_is_said() -> None:
    class Never(Here):
        def find(self, legacy: Answer, python: Answer, rules: Rules) -> Differences:
            raise NotComparable("it took longer than 5 s")

    verdict = Order(Side(html("a")), Side(html("b")), Never()).compare(ASKED, NONE)
    assert (verdict.kind, verdict.why) == (Kind.NOT_COMPARED, "it took longer than 5 s")


def test_the_rules_that_hid_something_are_known() -> None:
    file = models.Compare.model_validate({"ignore": [{"css": "p"}, {"header": "X-Never"}]})
    rules = Rules.of(file, "page")
    verdict = order(Side(html("a")), Side(html("b"))).compare(ASKED, rules)
    assert (verdict.kind, verdict.used) == (Kind.SAME, {"css: p"})
