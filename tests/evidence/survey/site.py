"""The log of a small site, made so that what is in it is known."""

from __future__ import annotations

import random

__all__ = ["line", "site_log"]


def line(
    target: str, *, method: str = "GET", status: int = 200, user: str = "-", took: str = "0.1"
) -> str:
    """A line of the combined format, with the time that it took behind it."""
    return (
        f'192.0.2.7 - {user} [17/May/2015:10:05:03 +0000] "{method} {target} HTTP/1.1" '
        f'{status} 512 "-" "x" {took}\n'
    )


def site_log(requests: int, seed: int = 1) -> str:
    """So many lines of a forge with a forum beside it."""
    chosen = random.Random(seed)
    pages = [
        (40, lambda: line(f"/project/p{chosen.randrange(60)}x")),
        (20, lambda: line(f"/viewtopic.php?t={chosen.randrange(5000)}")),
        (10, lambda: line(f"/style{chosen.randrange(3)}.css")),
        (10, lambda: line("/login.php", method=chosen.choice(["GET", "GET", "POST"]))),
        (5, lambda: line("/about")),
        (5, lambda: line(f"/gone/{chosen.randrange(9)}", status=404)),
        (2, lambda: line("//odd//path")),
        (2, lambda: line("/project/new", method="POST", status=302)),
    ]
    weights = [weight for weight, _ in pages]
    made = chosen.choices([page for _, page in pages], weights, k=requests)
    return "".join(page() for page in made)
