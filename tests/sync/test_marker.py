"""The cookie that legacy's answer takes along: what PHP wrote and where the log ended, both."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from bridge.sync.gtid import Gtid
from bridge.sync.marker import Marker
from bridge.sync.tokens import Entry, Keys, LogEnd, Token

NOW = 1_767_225_600
KEYS = Keys([("a1", "0123456789abcdef")])
FORGER = Keys([("a1", "another secret 1")])
END, OLDER = Gtid("0", 1, 42), LogEnd(Gtid("0", 1, 41), NOW - 5)
VIM, BASH = Entry("project", "vim", 7, NOW), Entry("project", "bash", 3, NOW - 9)


class Asked(NamedTuple):
    how: str = "asked"
    end: Gtid | None = END
    since: float = 0.0


MARKER = Marker(KEYS, lambda tell: Asked(), 0.02, lambda: float(NOW))


def read(token: str) -> Token:
    return KEYS.read(token, NOW)


def test_the_end_of_the_log_is_added_to_what_the_visitor_has_and_gets() -> None:
    token = MARKER.token(Asked(), [KEYS.sign([BASH])], [KEYS.sign([VIM])])
    assert read(token) == Token((VIM, BASH), LogEnd(END, NOW))


def test_the_new_end_replaces_the_old_one_whatever_that_was() -> None:
    """It is where the log ends now; in another history that may be a lower number."""
    beyond = LogEnd(Gtid("0", 1, 99), NOW)
    for old in (OLDER, beyond):
        assert read(MARKER.token(Asked(), [KEYS.sign([], old)], [])).end == LogEnd(END, NOW)


def test_what_php_gives_without_a_question_keeps_the_end_that_the_visitor_has() -> None:
    """PHP leaves out what it does not know, and its cookie replaces the visitor's."""
    token = MARKER.token(None, [KEYS.sign([BASH], OLDER)], [KEYS.sign([VIM, BASH])])
    assert read(token) == Token((VIM, BASH), OLDER)


@pytest.mark.parametrize("how", ["", "away", "unclear"])
def test_an_end_that_nobody_knows_is_noted_as_such_whatever_there_was(how: str) -> None:
    """Legacy answers them for as long as it counts."""
    token = MARKER.token(Asked(how, None), [KEYS.sign([BASH], OLDER)], [KEYS.sign([VIM])])
    assert read(token) == Token((VIM, BASH), LogEnd(None, NOW))
    unknown = KEYS.sign([], LogEnd(None, NOW - 5))
    assert read(MARKER.token(Asked(), [unknown], [])).end == LogEnd(END, NOW)
    kept = MARKER.token(None, [unknown], [KEYS.sign([VIM], OLDER)])
    assert read(kept).end == LogEnd(None, NOW - 5)


def test_of_a_log_without_a_transaction_nothing_is_said() -> None:
    assert MARKER.token(Asked("nothing", None), [KEYS.sign([BASH])], []) == ""


@pytest.mark.parametrize("given", [[], ["deleted"], [FORGER.sign([VIM])]])
def test_without_an_end_and_without_an_entry_nothing_is_added(given: list[str]) -> None:
    assert MARKER.token(None, [KEYS.sign([], OLDER)], given) == ""


def test_what_php_gives_stays_as_it_is_for_visitors_without_an_end() -> None:
    assert MARKER.token(None, [KEYS.sign([BASH])], [KEYS.sign([VIM])]) == ""
    assert MARKER.token(None, [], [KEYS.sign([VIM])]) == ""


def test_forged_cookies_add_nothing() -> None:
    token = MARKER.token(Asked(), [FORGER.sign([VIM], OLDER), "x"], [FORGER.sign([BASH])])
    assert read(token) == Token((), LogEnd(END, NOW))


def test_only_a_cookie_that_says_something_is_sound() -> None:
    assert MARKER.is_sound(KEYS.sign([VIM]))
    old = Entry("project", "vim", 7, NOW - 300)
    for unsound in ("", "deleted", FORGER.sign([VIM]), KEYS.sign([old])):
        assert not MARKER.is_sound(unsound)
