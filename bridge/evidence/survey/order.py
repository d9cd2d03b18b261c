"""In which order to go: what much is read, by GET only, in few variants, without a log-in, comes
first. Pure; every place in the order has its reason in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.evidence.survey.paths import Rule
from bridge.evidence.survey.tally import Tally

__all__ = ["Proposal", "propose"]

_PERSONAL = re.compile(
    r"/(?:[^/]*[-_.])?(?:log-?in|log-?out|sign-?(?:in|up|out)|register|account|admin\w*|wp-admin|"
    r"wp-login|cart|checkout|basket|profile|settings|ucp|preferences|password)(?=[/._-]|$)",
    re.IGNORECASE,
)
_FEW_VARIANTS = 8
_READS, _HARMLESS = ("GET", "HEAD"), ("OPTIONS", "PROPFIND", "TRACE")


@dataclass(frozen=True)
class Proposal:
    """A rule, and why it stands where it does; `score` is the share of all requests that it is
    worth, from 0 to 1. `personal` says that its name is one of logging in, or of an account."""

    rule: Rule
    score: float
    why: str
    personal: bool = False


def propose(rules: Sequence[Rule], total: Tally) -> list[Proposal]:
    """The rules that are worth a handler, in order. What is mostly not found or only redirects is
    left out, and so is what nobody reads."""
    found = [_judged(rule, total) for rule in rules if _is_page(rule.tally)]
    return sorted(found, key=lambda one: (-one.score, str(one.rule)))


def _is_page(tally: Tally) -> bool:
    denied = tally.status("401", "403")
    return tally.reads > 0 and 2 * (tally.good + denied) >= tally.requests


def _judged(rule: Rule, total: Tally) -> Proposal:
    tally = rule.tally
    share = tally.requests / max(1, total.requests)
    score = share * tally.good / max(1, tally.requests)
    reasons = [f"{_percent(share)} of the requests"]
    writes = tally.requests - tally.reads - sum(tally.methods.get(one, 0) for one in _HARMLESS)
    if writes > 0:
        part = writes / tally.requests
        score *= max(0.2, 1 - 8 * part)
        others = [one for one in tally.methods if one not in (*_READS, *_HARMLESS)]
        reasons.append(f"{_percent(part)} of them {', '.join(sorted(others)[:3])}")
    else:
        reasons.append("only GET and HEAD" if "HEAD" in tally.methods else "only GET")
    urls = len(tally.urls)
    if "<" in rule.path:
        reasons.append(f"one rule for {urls:,} addresses")
    elif rule.variants > _FEW_VARIANTS:
        score *= 0.6
        reasons.append(f"{rule.variants} combinations of parameters")
    elif urls == 1:
        reasons.append("a single page")
    else:
        reasons.append(f"{urls:,} addresses")
    if 20 * (tally.users + tally.status("401", "403")) > tally.requests:
        score *= 0.2
        reasons.append("some are logged in or refused")
    elif _PERSONAL.search(rule.path):
        score *= 0.2
        reasons.append("its name says log-in or account")
    elif tally.cookies * 5 > tally.requests:
        score *= 0.5
        reasons.append("sets cookies")
    if rule.path.rstrip("/").endswith("<path:rest>") or (rule.path.count("<") > 2):
        score *= 0.3
        reasons.append("many kinds of pages together")
    return Proposal(rule, score, ", ".join(reasons), bool(_PERSONAL.search(rule.path)))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"
