"""Where two answers to one request differ. Pure."""

from __future__ import annotations

from bridge.evidence.answers import Answer
from bridge.evidence.comparers.content import Content, content_of, text_of
from bridge.evidence.comparers.difference import Difference, Differences
from bridge.evidence.comparers.found import LONGEST, Found
from bridge.evidence.comparers.headers import found_in_headers
from bridge.evidence.comparers.html import found_in_html
from bridge.evidence.comparers.ignoring import Effect, Rules
from bridge.evidence.comparers.jsontree import NoJson, found_in_json
from bridge.evidence.comparers.lines import found_in_bytes, found_in_lines

__all__ = ["MOST", "all_found", "find", "shown"]

MOST = 2_000
"""Places of two answers that are told apart: of more, the page as a whole is another one."""

_SHOWN = 100
"""Differences that are handed out."""


def find(legacy: Answer, python: Answer, rules: Rules) -> Differences:
    """Where two answers differ; none: they are the same.

    Raises NotComparable where it cannot be said.
    """
    effect = Effect(rules)
    return shown(all_found(legacy, python, effect), effect)


def shown(found: list[Found], effect: Effect) -> Differences:
    """For people: at most a hundred, and one that says how many more there are."""
    differences = [one.shown() for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        more = f"{len(found) - _SHOWN:,} more"
        differences.append(Difference("more", "more", "more", more, more))
    return Differences(differences, frozenset(effect.used))


def all_found(old: Answer, new: Answer, effect: Effect) -> list[Found]:
    """As `find`, with all that is needed to look for noise."""
    found = []
    if old.status != new.status:
        found.append(_value("status", str(old.status), str(new.status)))
    elif old.reason.lower() != new.reason.lower() and old.reason and new.reason:
        found.append(_value("reason", old.reason, new.reason))
    found += found_in_headers(old.headers, new.headers, effect)
    if old.status == new.status:
        found += _bodies(old, new, effect)
    # An answer of another status is another page: to say more of it says nothing more.
    return found


def _value(place: str, old: str, new: str, what: str = "changed") -> Found:
    return Found(place, what, place, old[:LONGEST], new[:LONGEST], place)


def _bodies(old: Answer, new: Answer, effect: Effect) -> list[Found]:
    encoded = [answer.get("content-encoding") for answer in (old, new)]
    typed = [answer.get("content-type") for answer in (old, new)]
    if old.digest == new.digest and encoded[0] == encoded[1] and typed[0] == typed[1]:
        return []
    if not (old.whole and new.whole):
        if old.digest == new.digest:
            return []
        texts = [
            f"{one.length:,} bytes, SHA-256 {one.digest[:16]}… (too large to look into)"
            for one in (old, new)
        ]
        return [_value("body", *texts)]
    if not old.body or not new.body:
        if not old.body and not new.body:
            return []
        what = "added" if not old.body else "missing"
        texts = [f"{one.length:,} bytes" if one.body else "" for one in (old, new)]
        return [_value("body", texts[0], texts[1], what)]
    return _contents(content_of(old), content_of(new), effect)


def _contents(old: Content, new: Content, effect: Effect) -> list[Found]:
    if old.broken != new.broken:
        return [_value("body", old.broken, new.broken)]
    if old.broken:
        return found_in_bytes(old.body, new.body)
    if old.kind != new.kind:
        # Content-Type has been named; are the bytes others, too?
        return found_in_bytes(old.body, new.body)
    if old.body == new.body and old.charset == new.charset:
        return []
    if old.kind == "bytes":
        return found_in_bytes(old.body, new.body)
    found = _texts(old, new, old.charset, new.charset, effect)
    if found and old.charset != new.charset:
        # Is it the charset alone? Then the same bytes, read alike, are the same.
        alike = _texts(old, new, old.charset, old.charset, effect)
        if len(alike) < len(found):
            found = [_value("charset", old.charset or "none", new.charset or "none"), *alike]
    return found


def _texts(old: Content, new: Content, mine: str, yours: str, effect: Effect) -> list[Found]:
    one, other = text_of(old.body, mine), text_of(new.body, yours)
    if one == other:
        return []
    if old.kind == "html":
        return found_in_html(one, other, effect, MOST)
    if old.kind == "json":
        try:
            return found_in_json(one, other, effect, MOST)
        except NoJson:
            return found_in_lines(one, other, effect, MOST)
    return found_in_lines(one, other, effect, MOST, tags=old.kind == "xml")
