"""A request and both of its answers, made fit to be kept, and back. Pure, but for what `hide`
does.

All that is written to the disk goes through here: what is secret does not get further.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.evidence.answers import Answer, Asked
from bridge.evidence.differences.found import Found, Page, Place, Shown
from bridge.evidence.differences.hiding import CannotHide
from bridge.evidence.differences.secrets import MASK, Secrets, of_headers
from bridge.evidence.differences.text import kept_text

__all__ = ["Kept", "packed", "secrets_of", "shown", "unpacked"]

Hide = Callable[[Sequence[str]], list[str]]
"""Masks what the site's patterns match in texts, in their order. Raises CannotHide."""

_MOST_HEADERS = 200
_MOST_TEXT = 8192  # characters of a header, a target and the like
_MOST_EXCERPT = 400
_MOST_READS = 200
_EXPANDED = 16 * 2**20  # bytes; nothing that is written here is larger


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one request: the request, both answers, and why they are not compared."""

    asked: Asked
    legacy: Page | None
    python: Page | None
    why: str


def secrets_of(found: Found) -> Secrets:
    """The values that must not be kept of it."""
    answers = [one for one in (found.legacy, found.python) if one is not None]
    headers = [found.asked.headers, *(one.headers for one in answers)]
    return Secrets(headers, [found.asked.target])


def shown(found: Found, differences: Sequence[Place], secrets: Secrets, hide: Hide) -> list[Shown]:
    """The differences without secrets. Where the site's patterns cannot be applied, nothing but
    what kind of difference it is.

    found, differences: what was found, and which of it.
    secrets: of `secrets_of`.
    hide: for short texts.
    """
    places = [(_plain(one.place), _plain(one.group)) for one in differences]
    texts = [
        secrets.out_of_excerpt(one.place, _plain(text)[:_MOST_EXCERPT])
        for one in differences
        for text in (one.legacy, one.python)
    ]
    names = [secrets.out_of(name[:_MOST_EXCERPT]) for pair in places for name in pair]
    try:
        hidden = hide([*names, *texts])
    except CannotHide:
        hidden = [MASK if text else "" for text in (*names, *texts)]
    both = len(names)
    return [
        Shown(
            hidden[2 * at],
            hidden[2 * at + 1],
            _plain(one.what)[:40],
            hidden[both + 2 * at],
            hidden[both + 2 * at + 1],
        )
        for at, one in enumerate(differences)
    ]


def packed(found: Found, secrets: Secrets, hide: Hide) -> bytes:
    """What is kept of a request, for `unpacked`: without secrets, compressed."""
    asked = found.asked
    kept: dict[str, Any] = {
        "asked": {
            "method": asked.method,
            "target": asked.target[:_MOST_TEXT],
            "host": asked.host[:_MOST_TEXT],
            "headers": _headers(asked.headers),
            "scheme": asked.scheme,
        },
        "why": found.why[:_MOST_TEXT],
        "legacy": _page(found.legacy),
        "python": _page(found.python),
    }
    clean = _refilled(kept, map(secrets.out_of, map(_plain, _leaves(kept))))
    try:
        hidden = _refilled(clean, iter(hide(list(_leaves(clean)))))
    except CannotHide as error:
        hidden = _refilled(clean, (MASK if text else "" for text in _leaves(clean)))
        for side in ("legacy", "python"):
            if hidden[side]:
                hidden[side]["left_out"] = str(error)
    return zlib.compress(json.dumps(hidden).encode(), 6)


def unpacked(data: bytes) -> Kept:
    """What `packed` has made. Raises ValueError for anything else."""
    try:
        kept = json.loads(zlib.decompressobj().decompress(data, _EXPANDED))
        asked = Asked(**{**kept["asked"], "headers": _pairs(kept["asked"]["headers"])})
        return Kept(asked, _side(kept["legacy"]), _side(kept["python"]), kept["why"])
    except (zlib.error, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no sample: {error}") from None


def _page(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    text, left_out = kept_text(answer)
    reads = list(answer.reads.items())[:_MOST_READS]
    return {
        "status": answer.status,
        "reason": answer.reason[:_MOST_TEXT],
        "headers": _headers(answer.headers),
        "text": text,
        "length": answer.length,
        "digest": answer.digest,
        "left_out": left_out,
        "reads": [[entity, key[:_MOST_TEXT], version] for (entity, key), version in reads],
    }


def _side(kept: dict[str, Any] | None) -> Page | None:
    if kept is None:
        return None
    reads = {f"{entity} {key}": version for entity, key, version in kept["reads"]}
    return Page(**{**kept, "headers": _pairs(kept["headers"]), "reads": reads})


def _headers(headers: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Those without values that are secret by the name of their header."""
    pairs = [(name[:_MOST_TEXT], value[:_MOST_TEXT]) for name, value in headers[:_MOST_HEADERS]]
    return [list(pair) for pair in of_headers(pairs)]


def _pairs(headers: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers]


def _leaves(value: Any) -> Iterator[str]:
    """Every text in it, in its order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)


def _refilled(value: Any, texts: Iterator[str]) -> Any:
    """The same with other texts in place of its own."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {key: _refilled(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_refilled(inner, texts) for inner in value]
    return value


def _plain(text: str) -> str:
    """`text` as UTF-8 can have it."""
    return text.encode("utf-8", "backslashreplace").decode()
