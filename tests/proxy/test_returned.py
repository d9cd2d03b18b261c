"""What a view returns that is no Response is said in those words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Request, Response

from bridge.proxy.routing.handlers import import_handler

RETURNED: list[Any] = ["<h1>Hello</h1>", b"data", None, ("text", 200), {"a": 1}, ["a"], 404, 1.5]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """The body of an answer by a handler that returns this."""

    def asked(returned: Any) -> str:
        monkeypatch.setattr(f"{__name__}.view", lambda request: returned, raising=False)
        app = import_handler(f"{__name__}:view", view=True)
        body, _, _ = run_wsgi_app(app, EnvironBuilder("/").get_environ())
        return b"".join(body).decode()

    return asked


@pytest.mark.parametrize("returned", RETURNED, ids=repr)
def test_what_is_no_response_is_named(answer: Callable[[Any], str], returned: Any) -> None:
    name = "None" if returned is None else type(returned).__name__
    with pytest.raises(TypeError, match=f"^the view returned {name}, not a Response; ."):
        answer(returned)


def test_an_async_view_is_told_so(answer: Callable[[Any], str]) -> None:
    async def view(request: Request) -> Response:
        return Response("never")

    with pytest.raises(TypeError, match="the view is `async def`"):
        answer(view(Request({})))


def test_a_response_is_one(answer: Callable[[Any], str]) -> None:
    assert answer(Response("well")) == "well"
