"""Views are called with the variables of their routes' paths: those that cannot be are found."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.proxy.tools.views import misfits
from tests.proxy.site import route, table

NAMES = ("name", "year", "page")
made: dict[str, Callable[..., Any]] = {}


def __getattr__(name: str) -> Callable[..., Any]:
    """The views that these tests make, by name, as attributes of this module."""
    try:
        return made[name]
    except KeyError:
        raise AttributeError(name) from None


def found(view: Callable[..., Any], path: str) -> list[str]:
    """What is said of a route with this view."""
    made["view"] = view
    own = route("page", path).replace("tests.proxy.site:view", f"{__name__}:view")
    return [str(problem) for problem in misfits(table(own), "routes.yaml")]


parameters = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from([inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY]),
        st.booleans(),
    ),
    unique_by=lambda one: one[0],
)


@settings(max_examples=60, deadline=None)
@given(parameters, st.lists(st.sampled_from(NAMES), unique=True), st.booleans())
def test_what_is_said_is_what_a_call_says(
    takes: list[tuple[str, Any, bool]], variables: list[str], rest: bool
) -> None:
    """Views of every form against paths of every form: the call itself is the judge."""
    words = ["request"]
    positional = [one for one in takes if one[1] is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    words += [
        f"{name}=None" if optional else name
        for name, _, optional in sorted(positional, key=lambda one: one[2])
    ]
    named = [one for one in takes if one not in positional]
    words += ["*"] * bool(named)
    words += [f"{name}=None" if optional else name for name, _, optional in named]
    words += ["**rest"] * rest
    view = eval(f"lambda {', '.join(words)}: None")
    said = found(view, "/" + "/".join(f"<{name}>" for name in variables))
    assert bool(said) is not callable_with(view, variables)


def callable_with(view: Callable[..., Any], variables: list[str]) -> bool:
    try:
        view(object(), **dict.fromkeys(variables, "x"))
    except TypeError:
        return False
    return True


def test_the_place_and_the_cure_are_said() -> None:
    (said,) = found(lambda request, nam: None, "/p/<name>/<int:page>")
    assert said.startswith("routes.yaml:10:")
    assert "does not take the request and name, page" in said
    assert "let it take (request, name, page)" in said


def test_a_decorator_that_gives_arguments_of_its_own_is_believed() -> None:
    def inner(request: object, database: object, name: str) -> None: ...

    @functools.wraps(inner)
    def outer(request: object, **variables: Any) -> None: ...

    assert found(outer, "/p/<name>") == []


@pytest.mark.parametrize("view", [dict, functools.partial(lambda request, a, name: None, a=1)])
def test_other_callables_are_looked_at_as_far_as_they_say(view: Callable[..., Any]) -> None:
    assert found(view, "/p/<name>") == []
