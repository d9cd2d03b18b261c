"""What legacy does not answer twice alike is noise, and nothing else is."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.comparers.noise import Settled, settle
from bridge.evidence.comparers.shapes import like
from tests.evidence.comparers.pages import Branch, answer, page, trees

NAMES = ["Acme & sons", "Globex", "Initech", "Umbrella"]


def settled(legacy: str, python: str, legacy_again: str, python_again: str = "") -> Settled:
    """Of four pages; Python's second one is its first where none is given."""
    pages = (legacy, python, legacy_again, python_again or python)
    return settle(*[answer(one) for one in pages], Rules())


def hexed(digits: int) -> Callable[[random.Random], str]:
    return lambda dice: f"{dice.getrandbits(4 * digits):0{digits}x}"


LONG = ("9f86d081884c7d65" * 2, "60303ae22b998861" * 2)

NOISE: dict[str, Callable[[random.Random], str]] = {
    "<input name=token value={}>": hexed(32),
    "<p>{} visits</p>": lambda dice: f"{dice.randrange(1000, 9999):,}",
    "<p>Page made in {} s</p>": lambda dice: f"{dice.uniform(0.001, 0.09):.4f}",
    "<time>{}</time>": lambda dice: f"2026-12-01 1{dice.randrange(9)}:0{dice.randrange(9)}:17",
    "<i>{}</i>": lambda dice: f"Tue, 1{dice.randrange(9)} Dec 2026 10:00:0{dice.randrange(9)} GMT",
    "<b>{} ago</b>": lambda dice: dice.choice(["59 seconds", "1 minute", "2 minutes"]),
    "<ul>{}</ul>": lambda dice: "".join(f"<li>{one}" for one in dice.sample(NAMES, 4)),
    "<div id=w-{0}><label for=x-{0}>a</label><p>b</p></div>": hexed(8),
    "<p>say</p>{}<p>more</p>": lambda dice: dice.choice(["", "<aside class=ad>Buy</aside>"]),
    "<script nonce={}>a</script>": lambda dice: secrets.token_urlsafe(18),
    "<span data-id={}></span>": lambda dice: str(uuid.UUID(int=dice.getrandbits(128), version=4)),
    "<!-- {} -->": lambda dice: f"web{dice.randrange(10, 99)} in {dice.randrange(100, 999)} ms",
    "<q>{}</q>": lambda dice: dice.choice(["To be or not", "All is well", "The end is near"]),
}


@pytest.mark.parametrize("place", NOISE)
@given(seed=st.integers(0, 2**32))
def test_noise_of_a_kind_is_noise(place: str, seed: int) -> None:
    dice = random.Random(seed)
    pages = [page(place.format(NOISE[place](dice))) for _ in range(8)]
    answers = [answer(one) for one in pages]
    result = settle(*answers[:4], Rules(), more=answers[4:])
    # Dice that fall alike five times are no noise to anybody who looks.
    if len({pages[0], pages[2], *pages[4:]}) > 1:
        assert result.different == []


@given(tree=trees(), seed=st.integers(0, 2**32))
def test_a_page_with_noise_in_the_same_places_of_all_answers_is_not_different(
    tree: Branch, seed: int
) -> None:
    dice = random.Random(seed)
    blocks = tree.below()
    chosen = [dice.randrange(len(blocks)) for _ in range(4)]
    pages = []
    for _ in range(4):
        for at, block in enumerate(chosen):
            blocks[block].attrs[f"data-{at}"] = f"{dice.getrandbits(64):016x}"
        pages.append(page(tree))
    result = settled(*pages)
    assert (result.different, result.gone) == ([], [])
    assert result.noise


@given(tree=trees(), other=trees())
def test_without_noise_what_differs_is_what_find_finds(tree: Branch, other: Branch) -> None:
    legacy, python = answer(page(tree)), answer(page(other))
    result = settle(legacy, python, legacy, python, Rules())
    assert result.different == find(legacy, python, Rules())
    assert (result.noise, result.gone) == ([], [])


@pytest.mark.parametrize(
    ("place", "legacy", "python"),
    [
        ("<input name=token value='{}'>", ("9f86d081884c7d65", "60303ae22b998861"), ""),
        ("<input name=token value='{}'>", ("9f86d081884c7d65", "60303ae22b998861"), "9f86d081"),
        ("<input name=token value='{}'>", (LONG[0], LONG[1]), "5" * 32),
        ("<input name=token value='{}'>", (LONG[0], LONG[1]),
         "9F86D081884C7D65" * 2),
        ("<p>{} visits</p>", ("1,204", "1,205"), "undefined"),
        ("<p>{} visits</p>", ("1,204", "1,205"), "1206"),
        ("<p>{} visits</p>", ("1,204", "1,205"), "7"),
        ("<p>{} visits</p>", ("1,204", "1,205"), "1,206.5"),
        ("<p>{}</p>", ("1,204 visits", "1,205 visits"), "1,206 hits"),
        ("<time>{}</time>", ("2026-12-01 10:00:01", "2026-12-01 10:00:02"), "01.12.2026 10:00:03"),
        ("<time>{}</time>", ("2026-12-01 10:00:01", "2026-12-01 10:00:02"), "now"),
        ("<p>{} of 17</p>", ("3", "4"), "5 of 18</p><p>0"),
        ("<ul>{}</ul>", ("<li>a<li>b<li>c", "<li>c<li>a<li>b"), "<li>b<li>a"),
        ("<ul>{}</ul>", ("<li>a<li>b<li>c", "<li>c<li>a<li>b"), "<li>b<li>a<li>d"),
        ("<div>{}</div>", ("", "<aside class=ad>x</aside>"), "<aside class=error>x</aside>"),
        ("<b>{}</b>", ("one", "two"), "<i>three</i>"),
    ],
)  # fmt: skip
def test_a_noisy_place_that_differs_in_another_way_is_different(
    place: str, legacy: tuple[str, str], python: str
) -> None:
    """
    legacy: what PHP writes there, twice.
    python: what Python writes.
    """
    first, again = (page(place.format(one)) for one in legacy)
    assert settled(first, page(place.format(python)), again).different


def test_what_differs_beside_noise_is_different() -> None:
    text = "<table><tr><th>Views<td>{}<tr><th>Stars<td>{}</table>"
    result = settled(
        *[page(text.format(*one)) for one in [("10", "5"), ("11", "6"), ("12", "5"), ("13", "6")]]
    )
    assert [one.python for one in result.different] == ["6"]
    assert result.noise


def test_python_may_write_one_value_always_where_legacy_varies() -> None:
    text = "<input name=token value={}>"
    result = settled(text.format("a1b2c3d4"), text.format("0f1e2d3c"), text.format("5e6f7a8b"))
    assert (result.different, len(result.noise)) == ([], 1)


def test_what_is_no_longer_there_is_gone() -> None:
    result = settled("<p>new", "<p>old", "<p>new", "<p>new")
    assert (result.different, result.noise) == ([], [])
    [one] = result.gone
    assert (one.legacy, one.python) == ("new", "old")


def test_what_stays_is_not_gone_too() -> None:
    result = settled("<p>a<p>x", "<p>b<p>y", "<p>a<p>x", "<p>b<p>x")
    assert [one.python for one in result.different] == ["b"]
    assert [one.python for one in result.gone] == ["y"]


def test_what_was_learned_of_one_page_is_known_on_the_next() -> None:
    text = "<p class=a>{}</p>" * 3 + "<div>{}<b>online</b></div>"
    rows = [text.format("x", "y", "z", number) for number in (41, 42)]
    learned = settled(rows[0], rows[0], rows[1]).learned
    other = [answer(text.format("k", "l", "m", number)) for number in (17, 18, 17, 18)]
    assert settle(*other, Rules()).different
    assert settle(*other, Rules(), known=learned).different == []
    wrong = [answer(text.format("k", "l", word, 17)) for word in "mnmn"]
    assert settle(*wrong, Rules(), known=learned).different


def test_in_a_list_of_noisy_rows_every_row_may_differ() -> None:
    rows = "<table>" + "<tr><td>name</td><td>{} ago</td></tr>" * 5 + "</table>"
    minutes = [f"{one} minutes" for one in (1, 2, 3, 4, 5, 6)]
    legacy, again = rows.format(*minutes[:5]), rows.format(*minutes[1:4], *minutes[3:5])
    python = rows.format(*minutes[1:4], *minutes[4:6])
    assert settled(legacy, legacy, again, python).different == []
    broken = rows.format(*minutes[1:4], minutes[4], "never")
    assert settled(legacy, legacy, again, broken).different


def test_a_header_that_varies_is_noise_and_one_that_is_lost_is_not() -> None:
    def traced(value: str | None) -> object:
        return answer("x", "text/html", *([("X-Trace", value)] if value else []))

    first, second, third = (traced(one) for one in ("a1b2c3d4", "b2c3d4e5", "c3d4e5f6"))
    assert settle(first, second, third, second, Rules()).different == []  # type: ignore[arg-type]
    lost = settle(first, traced(None), third, traced(None), Rules())  # type: ignore[arg-type]
    assert [one.what for one in lost.different] == ["missing"]


@given(
    st.lists(st.sampled_from(["digits", "hex", "words", "date"]), min_size=1, max_size=1),
    st.integers(0, 2**32),
)
def test_values_of_one_source_are_alike(kinds: list[str], seed: int) -> None:
    dice = random.Random(seed)
    sources: dict[str, Callable[[], str]] = {
        "digits": lambda: str(dice.randrange(100, 1000)),
        "hex": lambda: f"{dice.getrandbits(128):032x}",
        "words": lambda: " ".join(dice.choices(["some", "words", "again"], k=3)),
        "date": lambda: f"{dice.randrange(1, 29)} Dec 2026",
    }
    make = sources[kinds[0]]
    assert like([make(), make()], make())


@pytest.mark.parametrize("status", [404, 403, 200])
def test_a_status_that_varies_explains_no_third_one(status: int) -> None:
    pages = [answer("x", status=one) for one in (200, 302, 404, 403)]
    learned = settle(pages[0], pages[1], pages[1], pages[0], Rules()).learned
    wrong = answer("x", status=status)
    result = settle(pages[0], wrong, pages[1], wrong, Rules(), known=learned)
    assert [one.place for one in result.different] == (["status"] if status != 200 else [])


def test_xml_in_one_line_has_noise_in_one_of_its_pieces_alone() -> None:
    text = "<r><views>{}</views><price>{}</price></r>"
    values = (("1234", "1000"), ("2345", "2000"), ("3456", "1000"), ("4567", "2000"))
    pages = [answer(text.format(*one), "application/xml") for one in values]
    first = settle(*pages, Rules())
    for result in (first, settle(*pages, Rules(), known=first.learned)):
        assert [one.python for one in result.different] == ["<price>2000</price>"]
