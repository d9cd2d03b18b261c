"""HTML is compared as the tree that browsers make of it."""

from __future__ import annotations

import pytest

from bridge.evidence.comparers.difference import Difference
from bridge.evidence.comparers.ignoring import Rule
from tests.evidence.comparers.pages import found, places

LIST = "<!DOCTYPE html><ul id=main>{}</ul>"
ITEMS = [f"<li class='a b'><a href='/p/{at}'>item {at}</a></li>" for at in range(8)]
PATH = "html > body > ul#main"


def listed(items: list[str]) -> str:
    return LIST.format("".join(items))


def test_a_difference_says_where_what_and_both_values() -> None:
    [one] = found(listed(ITEMS), listed(ITEMS).replace("/p/3", "/p/33"))
    assert one == Difference(
        f"{PATH} > li[4] > a @href", f"{PATH} > li > a @href", "changed", "/p/3", "/p/33"
    )


@pytest.mark.parametrize(
    ("legacy", "python"),
    [
        ("<p class='a b'>x", "<p class='b  a a'>x"),
        ("<p id=a title=b>x", "<p title='b' id=\"a\">x</p>"),
        ("<p>one  two\n three</p>\n", "<p> one two three </p>"),
        ("<ul>\n <li>a</li>\n <li>b</li>\n</ul>", "<ul><li>a</li><li>b</li></ul>"),
        ("<P>&eacute; &#233; é</P>", "<p>é &eacute; &#xe9;</p>"),
        ("<table><tr><td>x</table>", "<table><tbody><tr><td>x</td></tr></tbody></table>"),
        ("<input disabled>", "<input disabled=''/>"),
        ("<p>a<br>\n b", "<p>a <br>b"),
        ("<!-- a --><p>x", "<!--a--><p>x"),
    ],
)
def test_what_no_browser_tells_apart_is_no_difference(legacy: str, python: str) -> None:
    assert found(legacy, python) == []


@pytest.mark.parametrize(
    ("legacy", "python", "place", "what"),
    [
        ("<!DOCTYPE html><p>x", "<p>x", "doctype", "missing"),
        ("<p>a<b>b</b> <i>c</i>", "<p>a<b>b</b><i>c</i>", "html > body > p > text[2]", "missing"),
        ("<pre>a\nb</pre>", "<pre>a b</pre>", "html > body > pre", "changed"),
        ("<p>a &lt;b&gt;", "<p>a &amp;lt;b&gt;", "html > body > p", "changed"),
        ("<p>x<!-- a -->", "<p>x<!-- b -->", "html > body > p > comment", "changed"),
        ("<p>x<!-- a -->", "<p>x", "html > body > p > comment", "missing"),
        ("<p><b>x</b>", "<p><i>x</i>", "html > body > p > b", "changed"),
        ("<p>say <b>x</b> now", "<p>say x now", "html > body > p > b", "missing"),
        ("<script>a = 1</script>", "<script>a = 2</script>", "html > head > script", "changed"),
        ("<style>a{}</style>", "<style>b{}</style>", "html > head > style", "changed"),
        ("<html lang=en><p>x", "<html lang=de><p>x", "html @lang", "changed"),
        ("<a rel=nofollow>x", "<a>x", "html > body > a @rel", "missing"),
        (
            "<template><b>x</b></template>",
            "<template><b>y</b></template>",
            "html > head > template > b",
            "changed",
        ),
    ],
)
def test_what_visitors_or_programs_see_is_one_difference(
    legacy: str, python: str, place: str, what: str
) -> None:
    """
    place: of the difference.
    what: its kind.
    """
    assert places(legacy, python) == [(place, what)]


def test_an_item_left_out_put_in_or_moved_is_one_difference() -> None:
    without = [*ITEMS[:3], *ITEMS[4:]]
    assert places(listed(ITEMS), listed(without)) == [(f"{PATH} > li[4]", "missing")]
    assert places(listed(without), listed(ITEMS)) == [(f"{PATH} > li[4]", "added")]
    moved = [*without, ITEMS[3]]
    assert places(listed(ITEMS), listed(moved)) == [(f"{PATH} > li[4]", "moved")]


def test_a_list_in_another_order_is_one_difference() -> None:
    [one] = found(listed(ITEMS), listed(ITEMS[::-1]))
    assert (one.group, one.what) == (f"{PATH} > li", "moved")


def test_a_block_in_front_of_everything_changes_no_path_behind_it() -> None:
    page = "<div><div>one</div><div>two</div></div><p>x"
    assert places(page, "<div>an advertisement</div>" + page) == [("html > body > div[1]", "added")]


def test_ids_that_differ_do_not_make_what_is_below_them_different() -> None:
    page = "<div id={}><p>one</p><p>two <b>three</b></p></div>"
    assert places(page.format("a1"), page.format("b2")) == [("html > body > div @id", "changed")]


def test_equal_faults_on_other_pages_are_of_one_group() -> None:
    page = "<p>x</p>" * {"one": 3, "two": 7}["one"] + "<div id=row17><p>{}</p></div>"
    [one] = found(page.format("a"), page.format("b"))
    page = "<p>x</p>" * 7 + "<div id=row4><p>{}</p></div>"
    [other] = found(page.format("c"), page.format("d"))
    assert one.place != other.place
    assert one.group == other.group


def test_long_texts_are_cut_to_where_they_differ() -> None:
    start = "the same words again and again " * 100
    [one] = found(f"<p>{start}old", f"<p>{start}new")
    assert one.legacy.endswith("again old")
    assert one.python.endswith("again new")
    assert len(one.python) <= 201


def test_another_page_is_told_in_a_hundred_differences_at_most() -> None:
    differences = found(
        "".join(f"<p class=c{at}>{at}</p>" for at in range(900)),
        "".join(f"<p class=d{at}>x{at}</p>" for at in range(900)),
    )
    assert len(differences) == 101
    assert differences[-1].what == "more"


def test_bytes_that_are_no_text_are_told_apart() -> None:
    from tests.evidence.comparers.pages import answer

    [one] = found(answer(b"<p>\xff\x80"), answer(b"<p>\xff\x81"))
    assert (one.legacy, one.python) == ("\\xff\\x80", "\\xff\\x81")


def test_a_selector_hides_its_elements_and_is_named_as_used() -> None:
    page = "<p>x</p><div class=ad>{}</div>"
    hidden = found(page.format(1), page.format(2), Rule("css", ".ad"), Rule("css", ".never"))
    assert hidden == []
    assert hidden.used == {"css: .ad"}
    with_one_only = found(page.format(1), "<p>x</p>", Rule("css", ".ad"))
    assert with_one_only == []


def test_an_expression_is_taken_out_of_texts_and_attributes() -> None:
    page = "<p title='v={0}'>built {0} today</p><!-- {0} -->"
    rule = Rule("regex", r"\d+")
    assert found(page.format(17), page.format(4), rule) == []
    assert found(page.format(17), page.format(4), rule).used == {"regex: \\d+"}
    assert len(found(page.format(17), page.format("x"), rule)) == 3
