"""A Django application in one file, as someone would mount it beside a PHP site."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path, reverse

settings.configure(
    SECRET_KEY="only for tests",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    LOGGING_CONFIG=None,
)


def page(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(
        "django page\n"
        f"link={reverse('page')}\n"
        f"absolute={request.build_absolute_uri(reverse('page'))}\n"
        f"visitor={request.META['REMOTE_ADDR']}\n"
        f"word={request.GET.get('word', '')}\n"
        f"cookie={request.COOKIES.get('basket', '')}\n",
        content_type="text/plain",
    )
    response.set_cookie("basket", "apples", path="/django", httponly=True)
    response.set_cookie("colour", "red")
    return response


def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, content_type=request.content_type)


def form(request: HttpRequest) -> HttpResponse:
    uploaded = request.FILES["file"]
    return HttpResponse(f"name={request.POST['name']} file={len(uploaded.read())}")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for number in range(5):
            yield f"{request.path_info} {number}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


def decline(request: HttpRequest) -> HttpResponse:
    len(request.body)
    return HttpResponse(headers={"X-Bridge-Use-Legacy": "not ready"})


urlpatterns = [
    path("page", page, name="page"),
    path("echo", echo),
    path("form", form),
    path("stream", stream),
    path("broken", broken),
    path("decline", decline),
]

app = get_wsgi_application()
