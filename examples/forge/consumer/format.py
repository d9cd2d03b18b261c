"""Text, numbers and times as the PHP side shows them (legacy/include/format.php).

Pure functions; the templates use them as filters.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

__all__ = ["escape", "is_web_address", "show_number", "show_time", "url_part"]

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# htmlspecialchars() with ENT_QUOTES; markupsafe writes &#34; and &#39; instead.
ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#039;"},
)
# \s without re.ASCII would know more kinds of space than PHP does.
WEB_ADDRESS = re.compile(r"https?://[^\s]+", re.ASCII)


def escape(value: Any) -> Markup:
    """`value` as HTML, with the entities that PHP's htmlspecialchars() writes."""
    if isinstance(value, Markup):
        return value
    return Markup(str(value).translate(ENTITIES))  # noqa: S704 - this is the escaping


def show_number(number: int) -> str:
    """1234567 -> 1,234,567"""
    return f"{number:,}"


def show_time(time: datetime) -> str:
    """10 Jun 2023, 08:05 UTC. A time without a zone is in UTC, as MongoDB's driver gives it."""
    if time.tzinfo is not None:
        time = time.astimezone(UTC)
    return f"{time.day} {MONTHS[time.month - 1]} {time.year}, {time:%H:%M} UTC"


def url_part(text: str) -> str:
    """`text` as one part of a path, as PHP's rawurlencode() writes it."""
    return quote(text, safe="")


def is_web_address(url: str) -> bool:
    """Whether the address becomes a link: http and https only, nothing that runs a script."""
    return WEB_ADDRESS.fullmatch(url) is not None
