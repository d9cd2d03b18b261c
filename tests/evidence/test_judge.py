"""Hostile answers cost the bridge bounded time and memory: children compare, and may be killed."""

from __future__ import annotations

import gzip
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.evidence.answers import Answer
from bridge.evidence.comparers.difference import NotComparable
from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rule, Rules
from bridge.evidence.comparers.noise import settle
from bridge.evidence.judge import Judge
from stack.waiting import wait_for
from tests.evidence.comparers.pages import JSON, TEXT, answer

SECONDS = 60.0
MEMORY = 640 * 2**20


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(SECONDS, MEMORY) as judge:
        yield judge


def children() -> set[int]:
    """Process ids of the children of this process, zombies too."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(one) for task in tasks for one in task.read_text().split()}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_judge_says_what_the_comparers_say(judge: Judge) -> None:
    rules = Rules((Rule("css", ".ad"),))
    pages = [answer(f"<p>{at}</p><b class=ad>{at}</b><!-- {at} \ud800 -->") for at in range(4)]
    assert judge.find(pages[0], pages[1], rules) == find(pages[0], pages[1], rules)
    assert judge.find(pages[0], pages[1], rules).used == {"css: .ad"}
    ours, its = settle(*pages, rules), judge.settle(*pages, rules)
    assert its == ours
    assert its.used == ours.used == {"css: .ad"}
    known = judge.settle(*pages[:3], answer("<p>7"), rules, known=its.learned, more=[pages[0]])
    assert known.different


def test_the_same_bytes_are_the_same_without_a_child() -> None:
    with Judge() as judge:
        assert judge.find(answer("x"), answer("x"), Rules()) == []
        assert repr(judge) == "<Judge: 0 busy, 0 idle>"


def shuffled(count: int) -> tuple[bytes, bytes, tuple[Rule, ...]]:
    items = [f"<li>{at}" for at in range(count)]
    one = "".join(items).encode()
    random.Random(1).shuffle(items)
    return one, "".join(items).encode(), ()


HOSTILE = {
    "nested divs": (b"<div>" * 3_000_000, b"<div>" * 3_000_000 + b"x", ()),
    "nested spans": (b"<span>" * 20_000, b"<span>" * 20_000 + b"x", ()),
    "a million attributes": (
        b"<p " + b" ".join(b"a%d=1" % at for at in range(1_000_000)) + b">",
        b"<p>x",
        (),
    ),
    "siblings in other order": shuffled(20_000),
    "two texts without a word in common": (b"<p>" + b"a b " * 10**6, b"<p>" + b"c d " * 10**6, ()),
    "an expression that never ends": (
        b"<p>" + b"a" * 60 + b"!",
        b"<p>" + b"a" * 61 + b"!",
        (Rule("regex", "(a+)+$"),),
    ),
    "zeros": (b"<p>\0" * 1000, b"<p>\0" * 1001, ()),
    "no UTF-8": (b"<p>\xff\xc0\x80", b"<p>\xff\xc0\x81", ()),
}
ENDLESS = {"nested divs", "a million attributes", "an expression that never ends"}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_page_ends_in_time_and_the_next_one_is_compared(what: str) -> None:
    legacy, python, rules = HOSTILE[what]
    with Judge(1.5 if what in ENDLESS else SECONDS, MEMORY) as judge:
        try:
            said = str(judge.find(answer(legacy), answer(python), Rules(rules)))
        except NotComparable as error:
            said = str(error)
            assert "the comparison" in said or "the page has more than" in said
        else:
            assert said != "[]"
        assert (what in ENDLESS) == ("took longer than 1.5 s" in said)
        assert judge.find(answer("<p>a"), answer("<p>b"), Rules())


@pytest.mark.slow
def test_two_hundred_thousand_siblings_in_another_order_are_one_difference() -> None:
    legacy, python, _ = shuffled(200_000)
    with Judge(SECONDS, 2**30) as judge:
        [one] = judge.find(answer(legacy), answer(python), Rules())
    assert one.what == "moved"


@pytest.mark.parametrize(
    ("type_", "legacy", "why"),
    [
        (JSON, b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (JSON, b"[" + b"1," * 2_000_000 + b"1]", "more than"),
        (TEXT, b"a\n" * 2_000_000, "more than"),
    ],
)
def test_what_is_too_much_is_not_compared_and_says_why(
    judge: Judge, type_: str, legacy: bytes, why: str
) -> None:
    """
    why: a part of what is said.
    """
    with pytest.raises(NotComparable, match=why):
        judge.find(answer(legacy, type_), answer(b"[1]", type_), Rules())
    assert judge.find(answer("<p>a"), answer("<p>b"), Rules())


def test_a_thousand_million_laughs_are_not_laughed(judge: Judge) -> None:
    entities = "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10}">' for at in range(1, 10))
    laughs = f'<!DOCTYPE l [<!ENTITY l0 "lol">{entities}]><l>&l9;{{}}</l>'
    pages = [answer(laughs.format(at), "application/xml") for at in range(2)]
    [one] = judge.find(*pages, Rules())
    assert one.what == "changed"


def test_a_page_of_a_gibibyte_that_is_sent_in_small_is_not_compared(judge: Judge) -> None:
    packer = gzip.compress(b"<div>" * 2**20, 1)
    bomb = packer * 205  # members of one stream: 1 GiB of nested elements
    page = answer(bomb, "text/html", ("Content-Encoding", "gzip"))
    with pytest.raises(NotComparable, match="larger than 64 MiB when it is decompressed"):
        judge.find(page, answer("x", "text/html", ("Content-Encoding", "gzip")), Rules())


def test_a_child_that_wants_more_memory_than_it_may_have_is_replaced() -> None:
    with Judge(SECONDS, 160 * 2**20) as judge:
        page = "".join(f"<p>{at}" for at in range(150_000))
        with pytest.raises(NotComparable, match="160 MiB"):
            judge.find(answer(page), answer(page + "x"), Rules())
        assert judge.find(answer("<p>a"), answer("<p>b"), Rules())


def test_a_child_that_is_killed_from_outside_is_replaced() -> None:
    with Judge(SECONDS, MEMORY) as judge:
        judge.find(answer("<p>a"), answer("<p>b"), Rules())
        [child] = judge.processes()
        os.kill(child, 9)
        with pytest.raises(NotComparable, match="SIGKILL"):
            judge.find(answer("<p>a"), answer("<p>b"), Rules())
        assert judge.find(answer("<p>a"), answer("<p>b"), Rules())


def test_threads_share_children_and_nothing_is_left_of_them() -> None:
    before, held = children(), descriptors()
    found: list[int] = []
    with Judge(SECONDS, MEMORY, children=2) as judge:

        def work(number: int) -> None:
            for at in range(5):
                pages = [answer("<p>x" * count) for count in (at + 2, at + 3 + number)]
                found.append(len(judge.find(*pages, Rules())))

        threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(children() - before) <= 2
        assert sorted(set(found)) == [1, 2, 3, 4]
    assert children() == before
    assert descriptors() == held


def test_closing_ends_a_comparison_that_is_under_way() -> None:
    said: list[str] = []
    before = children()
    judge = Judge(60.0, MEMORY)
    legacy, python, _ = HOSTILE["nested divs"]

    def work() -> None:
        try:
            judge.find(answer(legacy), answer(python), Rules())
        except NotComparable as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(judge.processes, what="a child that compares")
    judge.close()
    thread.join()
    assert len(said) == 1
    assert children() == before
    with pytest.raises(NotComparable, match="being ended"):
        judge.find(answer("a"), answer("b"), Rules())


def test_an_answer_that_is_too_large_to_keep_is_compared_by_its_digest(judge: Judge) -> None:
    headers = [("Content-Type", "text/html")]
    one = Answer(200, "", headers, b"", 2**30, "aa" * 32, whole=False)
    other = Answer(200, "", headers, b"", 2**30, "bb" * 32, whole=False)
    [difference] = judge.find(one, other, Rules())
    assert "too large to look into" in difference.legacy
