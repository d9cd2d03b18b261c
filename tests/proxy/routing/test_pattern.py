"""A segment with variables is read as an expression that backtracks would read it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.routing import BaseConverter, Map
from werkzeug.routing.converters import DEFAULT_CONVERTERS

from bridge.proxy.routing.matcher import read_rule
from bridge.proxy.routing.pattern import Pattern, Variable, atoms_of

STRING = "<x>"
CONVERTERS = [
    STRING,
    "<int:x>",
    "<int(signed=True):x>",
    "<float:x>",
    "<float(signed=True):x>",
    "<string(length=2):x>",
    "<string(minlength=0):x>",
    "<string(minlength=2):x>",
    "<string(maxlength=2):x>",
    "<string(minlength=2, maxlength=3):x>",
    "<string(minlength=0, maxlength=2):x>",
    "<any(a, aa, '-'):x>",
    "<any(aa, a):x>",
    "<any(a, ''):x>",
    "<path:x>",
]
TEXTS = [
    "".join(made) for length in range(5) for made in itertools.product("a1-", repeat=length)
] + ["1.1", "-1.1", "1.", ".1", "1-1.1", "-1.1-1", "1.1.1", "1.11", "a/1", "/a", "a/", "a-/-a"]
UUID = "0123ABCD-89ab-cdef-4567-89abcdef0123"


def pattern(rule: str) -> Pattern:
    """That of a rule of one segment, `<x>` standing for any number of variables."""
    names = iter("pqrstuvw")
    [(part, _)] = read_rule("/" + re.sub("x>", lambda _: f"{next(names)}>", rule))[0]
    assert isinstance(part, Pattern)
    return part


def expression(made: Pattern) -> re.Pattern[str]:
    """What Werkzeug makes of it."""
    values = [f"({one.converter.regex})" for one in made.variables]
    pairs = zip(map(re.escape, made.texts), [*values, ""], strict=True)
    return re.compile("".join(itertools.chain(*pairs)))


def differences(rule: str, texts: Sequence[str]) -> list[tuple[Any, ...]]:
    """The texts that are read in another way than by the expression."""
    made = pattern(rule)
    oracle = expression(made)
    found = []
    for text in texts:
        if made.final or "/" not in text:
            read, fitting = made.read(text), oracle.fullmatch(text)
            if read != (list(fitting.groups()) if fitting else None):
                found.append((rule, text, read, fitting))
    return found


@pytest.mark.parametrize("converter", [*CONVERTERS, "<uuid:x>"])
@pytest.mark.parametrize("around", ["{}", "a{}", "{}a", "a{}a", "-{}-1"])
def test_one_variable_takes_what_its_converter_takes(converter: str, around: str) -> None:
    uuids = [UUID, f"a{UUID}", f"{UUID}a", f"a{UUID}a", f"-{UUID}-1", UUID[1:], UUID[:-1]]
    assert differences(around.format(converter), [*TEXTS, *uuids]) == []


@pytest.mark.parametrize("one", CONVERTERS)
@pytest.mark.parametrize("other", CONVERTERS)
def test_two_variables_share_a_text_out_as_the_expression_does(one: str, other: str) -> None:
    """Each pair of converters, with nothing between them, and with what both may take."""
    for between in ("", "-", "a"):
        assert differences(one + between + other, TEXTS) == []


@pytest.mark.parametrize(
    "rule",
    [
        "<x>-<x>-<x>",
        "a<x>-<x>1<x>a",
        "<x>--<x>",
        "<x><x><x>",
        "<x>a<x><x>-<x>",
        "<int:x>-<x><int:x>a",
        "1<any(a, aa):x><string(maxlength=2):x>-<int(signed=True):x>",
        "<string(minlength=0):x>a<string(minlength=0):x>a<string(minlength=0):x>",
        "a<string(minlength=0, maxlength=2):x>-<string(minlength=0, maxlength=2):x>-1",
        "<int:x><string(minlength=0, maxlength=2):x>1<x>",
        "<int:x><x>a",
        "<x>-<x>-1",
        "<path:x>-<path:x>/<x>",
        "a<path:x>/a<x>-",
        "<path:x>/<string(minlength=0):x>/<path:x>",
    ],
)
def test_several_variables_do_so_too(rule: str) -> None:
    letters = "a-/" if "path" in rule else "a-1"
    more = ["".join(made) for made in itertools.product(letters, repeat=7)]
    assert differences(rule, [*TEXTS, *more]) == []


PIECES = st.lists(
    st.sampled_from([*CONVERTERS, "<uuid:x>", STRING, "-", "a", "1", "."]), min_size=1, max_size=6
)


@given(
    PIECES.filter(lambda made: any("<" in one for one in made)).map("".join),
    st.lists(st.sampled_from(["a", "aa", "-", "1", ".", "é", "٣", "\n", UUID]), max_size=9),
    st.booleans(),
)
@example("<uuid:x>-<x>", [UUID, "-", "a"], False)
@example("<x><uuid:x>", ["a", UUID], False)
@example("<uuid:x><uuid:x>", [UUID, UUID], False)
@example("<path:x>-<x>", ["a", "\n", "a", "-", "a"], False)
def test_any_segment_is_read_as_the_expression_reads_it(
    rule: str, pieces: list[str], slashes: bool
) -> None:
    assert differences(rule, [("/" if slashes else "").join(pieces)]) == []


@pytest.mark.parametrize("place", range(36))
@pytest.mark.parametrize("instead", ["", "g", "-", "00"])
def test_each_place_of_a_uuid_counts(place: int, instead: str) -> None:
    """Beside another variable, where it is read by its atoms."""
    text = UUID[:place] + instead + UUID[place + 1 :]
    assert differences("<any(a, b):x><uuid:x>", [f"a{text}", f"b{text}a"]) == []


def test_patterns_that_take_the_same_have_the_same_key() -> None:
    """Whatever their variables are called."""
    same = [pattern("a<int:x>-<string:x>"), pattern("a<int(fixed_digits=2):x>-<x>")]
    others = [
        pattern(one) for one in ("a<x>-<int:x>", "a<int:x>_<x>", "a<int:x>-<string(length=2):x>")
    ]
    assert same[0].key == same[1].key
    assert len({one.key for one in (*same, *others)}) == 4


def test_a_pattern_that_takes_slashes_is_another_one() -> None:
    [variable] = pattern("<x>").variables
    assert Pattern(["", ""], [variable], True).key != Pattern(["", ""], [variable], False).key


# --- what the atoms of a variable tell of it


def variable(converter: str) -> Variable:
    return pattern(converter).variables[0]


@pytest.mark.parametrize("converter", [*CONVERTERS, "<uuid:x>"])
def test_only_a_path_takes_as_little_as_it_can(converter: str) -> None:
    assert variable(converter).lazy == ("path" in converter)


@pytest.mark.parametrize(
    ("converter", "takes", "not_"),
    [
        ("<x>", ["", "-", "a1", ".html"], ["/", "a/b"]),
        ("<string(minlength=2):x>", ["", "-"], ["/"]),
        ("<int:x>", ["", "1", "12"], ["-", "a", "1a", "."]),
        ("<float:x>", ["", "1"], ["-", "1-"]),
        ("<path:x>", ["", "-", "/", "a/b"], []),
        ("<any(a, aa):x>", [], ["", "a"]),
        ("<string(maxlength=2):x>", [], ["", "a"]),
        ("<uuid:x>", [], ["", "a", "-"]),
    ],
)
def test_a_text_can_stand_in_values_of_any_length_only(
    converter: str, takes: list[str], not_: list[str]
) -> None:
    """Values that have an end may hold it, too; but then two readings are no surprise."""
    made = variable(converter)
    assert [made.takes(one) for one in takes] == [True] * len(takes)
    assert [made.takes(one) for one in not_] == [False] * len(not_)


# --- what no text can be held against


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("<string(minlength=5, maxlength=2):x>", "min repeat .* in the converter of <p>"),
        ("<x>-<string(minlength=5, maxlength=2):x>-<x>", "min repeat .* in the converter of <q>"),
        ("<x>-<string(maxlength=99999999999):x>", "in the converter of <q>"),
        ("<string(length='-1'):x>", "a length must be 0 or more"),
        ("<string(minlength='-1'):x>", "a length must be 0 or more"),
        ("<int(min=a):x>", "min and max must be numbers"),
        ("<int(max=a):x>", "min and max must be numbers"),
        ("<float(min=1, max=a):x>", "min and max must be numbers"),
    ],
)
def test_a_converter_that_takes_nothing_is_an_error_with_its_name(rule: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pattern(rule)


@pytest.mark.parametrize("limits", ["min=1", "max=1", "min=1, max=2", "min=0.5"])
@pytest.mark.parametrize("kind", ["int", "float"])
def test_limits_may_be_numbers(kind: str, limits: str) -> None:
    assert pattern(f"<{kind}({limits}):x>")


class Colour(BaseConverter):
    """A converter that nobody here knows."""


def test_a_converter_that_is_not_known_is_an_error_and_all_of_werkzeugs_are_known() -> None:
    with pytest.raises(LookupError, match="the converter Colour is not known here"):
        atoms_of(Colour(Map()), ())
    for kind in DEFAULT_CONVERTERS.values():
        made = kind(Map(), *(["a"] if "any" in kind.__name__.lower() else []))
        assert atoms_of(made, ("a",))
