"""The fixed words for who answered and why, and for what failed: logged, counted, explained.

Each is its own text, so that logs and metrics have it as it is; `says` is for people.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason", "Stage"]


class _Word(StrEnum):
    says: str

    def __new__(cls, word: str, says: str) -> _Word:
        member = str.__new__(cls, word)
        member._value_, member.says = word, says
        return member

    __hash__ = str.__hash__  # Enum's own is a function in Python


class Reason(_Word):
    """Why a side was chosen, or why legacy answers although Python was."""

    NO_ROUTE = "no-route", "no route takes it; legacy answers everything else"
    SHARE = "share", "the share of the route decides"
    PREVIEW = "preview", "a preview cookie picks the side"
    LEGACY_ROUTE = "legacy-route", "the route has no Python side"
    NO_HANDLER = "no-handler", "the handler of the route cannot be imported"
    ODD_TARGET = "odd-target", "the path could be read in two ways"
    NO_STICKY_KEY = "no-sticky-key", "the visitor has no key that would keep them on a side"

    DECLINED = "declined", "the handler declined"
    PYTHON_ERROR = "python-error", "the handler raised an exception"
    PYTHON_5XX = "python-5xx", "the handler answered with a status of 500 or more"
    PYTHON_TIMEOUT = "python-timeout", "the handler gave no first byte in time"
    PYTHON_BUSY = "python-busy", "all threads for handlers are busy"
    FRESHNESS = "freshness", "MongoDB did not get this visitor's edit in time"
    BREAKER_OPEN = "breaker-open", "the handler has failed too often recently"
    REDIRECT_LOOP = "redirect-loop", "the route was part of a redirect loop recently"


class Stage(_Word):
    """Of a request to legacy: what was being done when it failed, or what took its time. HANDLER:
    the same for a handler."""

    WAIT = "wait", "wait for a place among the connections"
    CONNECT = "connect", "make a connection"
    SEND = "send", "send the request"
    FIRST_BYTE = "first_byte", "wait for the head of the answer"
    HEAD = "head", "read the head of the answer"
    BODY = "body", "read the body of the answer"
    HANDLER = "handler", "wait for a thread, and for the handler's answer"
