"""Asking a real MariaDB where its log ends: quick, and never at the cost of who waits."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import BridgeError
from bridge.sync.gtid import Gtid
from bridge.sync.log import end
from bridge.sync.log.end import LogEnds, Question
from stack.mariadb import MariaDB
from stack.waiting import wait_for
from tests.sync.link import Link

PATIENT = 30.0
"""Seconds of a budget that a busy machine does not spend."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB with a log, and a table."""
    folder = tmp_path_factory.mktemp("mariadb-end")
    options = ["--log-bin=bin", "--server-id=7", "--binlog-format=ROW"]
    with MariaDB(folder, grants=True, options=options) as server:
        server.execute("CREATE TABLE bridge.t (n INT)")
        yield server


@pytest.fixture
def link(server: MariaDB) -> Iterator[Link]:
    with Link(server.port) as link:
        yield link


def asking(port: int, budget: float = PATIENT) -> LogEnds:
    return LogEnds(f"mysql://root@127.0.0.1:{port}/bridge", budget=budget)


def asked(ends: LogEnds, bound: float = PATIENT) -> Question:
    """A question, when it is answered."""
    told = threading.Event()
    question = ends.ask(told.set)
    assert question.how or told.wait(bound)
    return question


def written(server: MariaDB) -> Gtid:
    """The name of a transaction that has just been committed."""
    server.execute("INSERT INTO bridge.t VALUES (1)")
    [(text,)] = server.execute("SELECT @@gtid_binlog_pos")
    gtid = Gtid.parse(text)
    assert gtid is not None
    return gtid


def test_what_is_committed_before_the_question_is_before_the_end(server: MariaDB) -> None:
    with closing(asking(server.port)) as ends:
        for _ in range(20):
            gtid = written(server)
            found = asked(ends)
            assert (found.how, found.end) == ("asked", gtid)


def test_many_who_ask_at_once_share_questions_and_each_gets_an_end_of_after_theirs(
    server: MariaDB,
) -> None:
    questions: list[tuple[Gtid, Question]] = []
    with closing(asking(server.port)) as ends:

        def visit() -> None:
            for _ in range(10):
                gtid = written(server)
                questions.append((gtid, asked(ends)))

        visitors = [threading.Thread(target=visit) for _ in range(8)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(60)
        [(connections,)] = server.execute(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'bridge'"
        )
    assert len(questions) == 80
    assert all(found.end is not None and found.end.covers(gtid) for gtid, found in questions)
    assert connections == 1


def test_a_connection_that_the_server_has_ended_is_made_anew_for_the_same_question(
    server: MariaDB,
) -> None:
    with closing(asking(server.port)) as ends:
        asked(ends)
        [(number,)] = server.execute(
            "SELECT id FROM information_schema.processlist WHERE db = 'bridge'"
        )
        server.execute(f"KILL {number}")
        gtid = written(server)
        found = asked(ends)
        assert (found.how, found.end) == ("asked", gtid)


def test_a_database_that_is_silent_holds_nobody_up_after_the_first(
    server: MariaDB, link: Link
) -> None:
    with capture_logs() as logs, closing(asking(link.port, budget=0.2)) as ends:
        # Made first, as making a connection takes longer than an answer.
        wait_for(lambda: asked(ends).how == "asked", what="a first answer")
        link.freeze()
        waiting = ends.ask(lambda: None)
        assert waiting.how == ""
        wait_for(lambda: ends.ask(lambda: None).how == "away", what="it to count as away")
        link.thaw()
        wait_for(lambda: ends.ask(lambda: None).how != "away", what="it to be asked again")
        gtid = written(server)
        wait_for(lambda: asked(ends).end == gtid, what="an answer")
    kinds = [entry["log_level"] for entry in logs]
    assert "warning" in kinds
    assert kinds[-1] == "info"


def test_a_database_that_answers_late_counts_as_away_until_it_is_quick(
    server: MariaDB, link: Link
) -> None:
    with closing(asking(link.port, budget=0.2)) as ends:
        wait_for(lambda: asked(ends).how == "asked", what="a first answer")
        link.freeze()
        ends.ask(lambda: None)
        wait_for(lambda: ends.ask(lambda: None).how == "away", what="the budget to be spent")
        link.thaw()
        # The answer to the question is there, later than the budget allows.
        wait_for(lambda: asked(ends).how == "asked", what="it to be quick again")


def test_a_database_that_is_away_is_away_for_everybody_at_once_and_comes_back(
    tmp_path: Path,
) -> None:
    options = ["--log-bin=bin", "--server-id=7"]
    server = MariaDB(tmp_path, grants=True, options=options)  # not started yet
    with closing(asking(server.port)) as ends:
        told = threading.Event()
        first = ends.ask(told.set)
        assert told.wait(PATIENT)
        assert first.how == "away"
        second = ends.ask(lambda: None)
        assert (second.how, second.end) == ("away", None)
        with server:
            server.execute("CREATE TABLE bridge.t (n INT)")
            wait_for(lambda: asked(ends).how == "asked", 30, "the server")
            gtid = written(server)
            assert asked(ends).end == gtid


def test_who_accepts_and_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end, "_LIMIT", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(asking(silent.getsockname()[1], budget=0.1)) as ends,
    ):
        assert asked(ends).how == "away"


def test_a_server_without_a_log_has_nothing_to_say(mariadb: MariaDB) -> None:
    with closing(LogEnds(mariadb.url, budget=PATIENT)) as ends:
        found = asked(ends)
        assert (found.how, found.end) == ("nothing", None)


def test_a_log_of_several_domains_is_unclear_and_said_once(server: MariaDB) -> None:
    with capture_logs() as logs, closing(asking(server.port)) as ends:
        server.execute("SET gtid_domain_id = 5", "INSERT INTO bridge.t VALUES (2)")
        try:
            assert [asked(ends).how for _ in range(3)] == ["unclear"] * 3
        finally:
            server.execute("RESET MASTER")
    [said] = logs
    assert "gtid_domain_id" in said["cause"]


def test_a_log_that_begins_anew_says_nothing_until_the_mirror_can_know(
    monkeypatch: pytest.MonkeyPatch, server: MariaDB
) -> None:
    """Its numbers are those of other transactions, which the mirror may have had long ago."""
    with closing(asking(server.port)) as ends:
        written(server)
        before = written(server)
        assert asked(ends).end == before
        server.execute("RESET MASTER")
        after = written(server)
        assert after.sequence < before.sequence
        assert (asked(ends).end, asked(ends).how) == (None, "unclear")

        monkeypatch.setattr(end, "_ANOTHER", 0.0)
        assert asked(ends).end == after
        assert asked(ends).end == after


def test_a_child_asks_by_itself(server: MariaDB) -> None:
    with closing(asking(server.port)) as ends:
        written(server)
        asked(ends)
        if (pid := os.fork()) == 0:
            code = 1
            try:
                code = int(asked(ends).how != "asked")
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert asked(ends).how == "asked"


def test_one_who_cannot_be_told_does_not_stop_the_others(server: MariaDB) -> None:
    def gone() -> None:
        raise RuntimeError("the loop is closed")

    with closing(asking(server.port)) as ends:
        ends.ask(gone)
        assert asked(ends).how == "asked"
        ends.ask(gone)
        assert asked(ends).how == "asked"


def test_it_does_not_wait_for_a_thread_that_hangs_when_it_is_closed(
    server: MariaDB, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end, "_LIMIT", 0.2)
    ends = asking(link.port)
    link.freeze()
    ends.ask(lambda: None)
    ends.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [("sqlite:///site.db", "MariaDB and MySQL"), ("nonsense", "cannot be used")],
)
def test_another_database_is_refused(url: str, words: str) -> None:
    with pytest.raises(BridgeError, match=words):
        LogEnds(url)
