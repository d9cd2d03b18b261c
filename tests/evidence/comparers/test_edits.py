"""One edit of any page is one difference, at its place."""

from __future__ import annotations

import copy
import random

from hypothesis import assume, example, given
from hypothesis import strategies as st

from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rules
from tests.evidence.comparers.pages import HTML, JSON, TEXT, Branch, answer, found, page, trees

SEEDS = st.integers(0, 2**32)


def leaves(tree: Branch) -> list[Branch]:
    return [one for one in tree.below() if one.children and isinstance(one.children[0], str)]


@given(tree=trees(), seed=SEEDS)
def test_a_changed_text_is_one_difference_where_it_stands(tree: Branch, seed: int) -> None:
    edited = copy.deepcopy(tree)
    leaf = random.Random(seed).choice(leaves(edited))
    leaf.children[0] = "another text"
    [one] = found(page(tree), page(edited))
    assert one.what == "changed"
    assert one.python == "another text"
    assert one.group.split(" > ")[-1].split("#")[0] == leaf.tag


@given(tree=trees(), seed=SEEDS)
def test_a_changed_attribute_is_one_difference_at_its_name(tree: Branch, seed: int) -> None:
    edited = copy.deepcopy(tree)
    block = random.Random(seed).choice(edited.below())
    block.attrs["title"] = "another title"
    [one] = found(page(tree), page(edited))
    assert one.place.endswith(" @title")
    assert one.python == "another title"


@given(tree=trees(), seed=SEEDS)
def test_an_inserted_branch_is_one_difference(tree: Branch, seed: int) -> None:
    edited, dice = copy.deepcopy(tree), random.Random(seed)
    holder = dice.choice([one for one in edited.below() if one not in leaves(edited)])
    new = Branch("aside", {}, ["new ", Branch("b", {}, ["and bold"])])
    holder.children.insert(dice.randint(0, len(holder.children)), new)
    [one] = found(page(tree), page(edited))
    assert one.what == "added"
    assert one.python == str(new)


@given(tree=trees(), seed=SEEDS)
def test_a_branch_left_out_is_one_difference(tree: Branch, seed: int) -> None:
    edited, dice = copy.deepcopy(tree), random.Random(seed)
    holders = [one for one in edited.below() if len(one.children) > 1]
    assume(holders)
    holder = dice.choice(holders)
    gone = holder.children.pop(dice.randrange(len(holder.children)))
    [one] = found(page(tree), page(edited))
    assert one.what == "missing"
    assert str(gone).startswith(one.legacy.removesuffix("…"))


@given(tree=trees(), seed=SEEDS)
def test_a_branch_moved_among_its_neighbours_is_one_difference(tree: Branch, seed: int) -> None:
    edited, dice = copy.deepcopy(tree), random.Random(seed)
    holders = [one for one in edited.below() if len(one.children) > 1]
    assume(holders)
    holder = dice.choice(holders)
    moving = holder.children.pop(dice.randrange(len(holder.children)))
    holder.children.insert(dice.randint(0, len(holder.children)), moving)
    assume(str(edited) != str(tree))
    [one] = found(page(tree), page(edited))
    assert one.what == "moved"


@given(tree=trees(), seed=SEEDS)
def test_a_branch_moved_to_another_parent_is_one_difference(tree: Branch, seed: int) -> None:
    dice = random.Random(seed)
    tree = copy.deepcopy(tree)
    note = Branch("aside", {}, ["a note which is found once"])
    holders = [at for at, one in enumerate(tree.below()) if one not in leaves(tree)]
    assume(len(holders) > 1)
    here, there = dice.sample(holders, 2)
    edited = copy.deepcopy(tree)
    for which, root in ((here, tree), (there, edited)):
        children = root.below()[which].children
        children.insert(dice.randint(0, len(children)), note)
    [one] = found(page(tree), page(edited))
    assert one.what == "moved"
    assert one.legacy == str(note)


@given(tree=trees(), seed=SEEDS)
def test_sides_that_are_swapped_have_the_swapped_differences(tree: Branch, seed: int) -> None:
    edited, dice = copy.deepcopy(tree), random.Random(seed)
    for holder in edited.below():
        if len(holder.children) > 1 and dice.random() < 0.3:
            holder.children.pop(dice.randrange(len(holder.children)))
        if dice.random() < 0.2:
            holder.attrs["title"] = "another title"
    there, back = found(page(tree), page(edited)), found(page(edited), page(tree))
    swapped = {"missing": "added", "added": "missing"}
    mirrored = sorted((swapped.get(one.what, one.what), one.python, one.legacy) for one in back)
    assert sorted((one.what, one.legacy, one.python) for one in there) == mirrored


@given(one=trees(), other=trees())
def test_pages_of_other_trees_differ_both_ways(one: Branch, other: Branch) -> None:
    there, back = found(page(one), page(other)), found(page(other), page(one))
    assert bool(there) == bool(back) == (str(one) != str(other))


@given(
    body=st.binary(max_size=300),
    type_=st.sampled_from([HTML, JSON, TEXT, "text/xml", "image/png", "text/html", "", "x", None])
    | st.text(st.characters(max_codepoint=255), max_size=30),
    encoding=st.sampled_from(["", "identity", "gzip", "deflate", "br", "zstd", "gzip, br"]),
)
@example(body=b"\xff\xfe\x00\xd8", type_=HTML, encoding="")
@example(body=b'[[[[1e999, NaN, -0, "\\ud800"]]]]', type_=JSON, encoding="")
def test_any_answer_is_the_same_as_itself(body: bytes, type_: str | None, encoding: str) -> None:
    headers = [("Content-Encoding", encoding)] if encoding else []
    one = answer(body, type_, *headers)
    # Another space in front of a value means nothing, and keeps the bytes from being equal.
    other = answer(body, type_ and f" {type_}", *headers)
    assert find(one, one, Rules()) == []
    assert find(one, other, Rules()) == []


@given(
    one=st.binary(max_size=200),
    other=st.binary(max_size=200),
    type_=st.sampled_from([HTML, JSON, TEXT, "text/xml", "image/png"]),
)
def test_any_two_bodies_can_be_compared(one: bytes, other: bytes, type_: str) -> None:
    differences = find(answer(one, type_), answer(other, type_), Rules())
    if one == other or type_ == "image/png":
        assert bool(differences) == (one != other)
    for difference in differences:
        assert difference.place
        assert len(difference.legacy) <= 201
        assert len(difference.python) <= 201
