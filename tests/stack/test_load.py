"""A fast wrong answer is no result: the load generators end the run."""

from collections.abc import Iterator

import pytest

from stack.errors import LoadFailed
from stack.load import Page, latencies, throughput
from stack.nginx import Nginx

# nginx says so in the thousandth answer on a connection, which then has another size.
SERVER = """
    keepalive_requests 1000000000;
    server {
        listen @LISTEN@;
        location /page { return 200 "right"; }
        location /other { return 200 "wrong"; }
        location /longer { return 200 "right and more"; }
        location /gone { return 404 "right"; }
        location /moved { return 302 /page; }
    }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Nginx(tmp_path_factory.mktemp("nginx"), SERVER) as nginx:
        yield nginx.url


def page(url: str) -> Page:
    return Page(url, (("Accept", "text/html"),), b"right")


def test_every_right_answer_is_timed(server: str) -> None:
    times, _ = latencies(page(f"{server}/page"), requests=20)
    assert len(times) == 20
    assert min(times) > 0


def test_right_answers_are_counted(server: str) -> None:
    _, answer = latencies(page(f"{server}/page"), requests=1)
    rate, requests = throughput(page(f"{server}/page"), connections=2, seconds=1, answer=answer)
    assert rate > 0
    assert requests > 0


@pytest.mark.parametrize("path", ["/other", "/longer", "/gone", "/moved"])
def test_a_wrong_answer_ends_the_measurement_of_latency(server: str, path: str) -> None:
    with pytest.raises(LoadFailed):
        latencies(page(server + path), requests=1)


@pytest.mark.parametrize("path", ["/longer", "/gone", "/moved"])
def test_a_wrong_answer_ends_the_measurement_of_throughput(server: str, path: str) -> None:
    _, answer = latencies(page(f"{server}/page"), requests=1)
    with pytest.raises(LoadFailed):
        throughput(page(server + path), connections=2, seconds=1, answer=answer)
