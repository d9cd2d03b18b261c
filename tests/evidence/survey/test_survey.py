"""A whole survey: sums are the log's, the order is a person's, the routes load."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.evidence.logs import Reader
from bridge.evidence.survey import Survey, propose
from bridge.evidence.survey.order import Proposal
from bridge.evidence.survey.paths import Rule
from bridge.evidence.survey.routesfile import routes_file
from bridge.evidence.survey.tally import Tally
from bridge.proxy.routing.load import load_text
from bridge.proxy.tools.lint import lint
from tests.evidence.survey.site import line, site_log


def surveyed(path: Path) -> tuple[Survey, Reader]:
    found, reader = Survey(), Reader([path])
    for batch in reader.batches():
        found.add(batch)
    return found, reader


def test_sums_equal_those_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = site_log(3000)
    log.write_text(text)
    found, reader = surveyed(log)
    rules = found.rules()
    fields = [one.split() for one in text.splitlines()]
    assert reader.lines == found.total.requests == len(fields)
    assert found.total.bytes == sum(int(one[9]) for one in fields)
    parts = [rule.tally for rule in rules] + list(found.static.values()) + [found.odd]
    assert sum(one.requests for one in parts) == len(fields)
    assert sum(one.bytes for one in parts) == found.total.bytes
    errors = sum(one.statuses.get("404", 0) for one in parts)
    assert errors == sum(one[8] == "404" for one in fields)


def test_much_that_is_only_read_comes_first_and_log_ins_late(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(site_log(3000))
    found, _ = surveyed(log)
    order = [str(one.rule) for one in propose(found.rules(), found.total)]
    assert order[:2] == ["/project/<name>", "/viewtopic.php?t=…"]
    assert order.index("/login.php") > order.index("/about")
    assert not any("gone" in one for one in order)


def test_a_script_has_the_time_when_it_was_asked_for_last_whichever_file_comes_first(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.php").touch()
    new, old = tmp_path / "log", tmp_path / "log.1"
    for log, day in ((new, "17/Jul/2015"), (old, "17/May/2015")):
        log.write_text(f'1.2.3.4 - - [{day}:10:05:03 +0000] "GET /x.php HTTP/1.1" 200 5\n')
    for logs in ([new, old], [old, new]):
        found = Survey()
        for batch in Reader(logs).batches():
            found.add(batch)
        found.rules()
        assert list(found.scripts.unused(tmp_path, found.last - 86400)) == []


def test_numbers_that_no_log_should_have_stop_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    good = '"request": "GET /a HTTP/1.1", "status": 200'
    odd = (
        '"time": NaN', '"time": 1e999', '"ts": "-1e15"', '"ts": 1701396000000000000',
        f'"bytes": "{"9" * 5000}"', f'"request_time": {"9" * 400}',
    )  # fmt: skip
    log.write_text("".join(f"{{{good}, {one}}}\n" for one in odd))
    found, _ = surveyed(log)
    found.rules()
    assert found.total.requests == len(odd)
    assert (found.first, found.last) == (0.0, 0.0) or 1.7e9 < found.last < 1.8e9


def test_every_place_in_the_order_has_its_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("/a") * 3 + line("/a", method="POST"))
    found, _ = surveyed(log)
    (only,) = propose(found.rules(), found.total)
    assert only.why == "100.0% of the requests, 25.0% of them POST, a single page"


def test_who_is_logged_in_and_how_long_it_took_are_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fast, slow = line("/a", user="bob"), line("/a", took="2.0")
    format_ = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "-" "x" $request_time'  # noqa: E501
    log.write_text(fast * 9 + slow)
    found, reader = Survey(), Reader([log], format_)
    for batch in reader.batches():
        found.add(batch)
    (rule,) = found.rules()
    assert rule.tally.users == 9
    assert 2.0 <= (rule.tally.slowest(0.99) or 0) <= 2.5


WORD = st.text("ab<>%?&=.'\"\\é0/", max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(WORD, st.integers(1, 5)), min_size=1, max_size=60))
def test_the_routes_of_any_log_load_without_a_finding(
    tmp_path_factory: object, words: list[tuple[str, int]]
) -> None:
    survey = Survey()
    for word, count in words:
        rows = [(f"GET /{word} HTTP/1.1", "200", "1", "")] * count
        from bridge.evidence.logs import Batch

        survey.add(Batch({"request": 0, "status": 1, "bytes": 2, "time": 3}, rows))
    proposals = propose(survey.rules(), survey.total)
    text = routes_file(proposals, ["www.example.org"], "http://127.0.0.1:8090")
    table = load_text(text, Path("routes.yaml"))
    assert [one.message for one in lint(table, "routes.yaml") if "equal rank" in one.message] == []
    assert all(route.share == 0 and route.app for route in table.routes)


def test_pages_for_logging_in_are_no_routes_and_a_log_without_queries_is_said() -> None:
    rules = [
        Proposal(Rule(path, {}, Tally(), 0), 0.5, "often", personal)
        for path, personal in (("/wp-login.php", True), ("/page", False))
    ]
    text = routes_file(rules, ["www.example.org"], "http://127.0.0.1:8090", queries=False)
    assert "wp-login" not in text
    assert "whatever the query is" in text
    assert [route.spec.path for route in load_text(text, Path("routes.yaml")).routes] == ["/page"]
