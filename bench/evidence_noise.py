"""Innocent noise: twenty things in which two answers to the same request differ on many sites.

`evidence_noise.php` puts the same twenty into the pages of PHP, each side with its own dice.
"""

from __future__ import annotations

import itertools
import random
import secrets
import string
import time
import uuid
from pathlib import Path

from werkzeug.http import http_date
from werkzeug.wrappers import Response

__all__ = ["ROUTER", "add_noise"]

ROUTER = Path(__file__).with_name("evidence_noise.php")
"""For `php -S`; the environment's EVIDENCE_ROUTER is the router of the site."""

_visits = itertools.count(1204)
_ADS = ("Hosting that hosts", "A keyboard of wood", "Learn COBOL in a night", "Mugs with a prompt")


def add_noise(response: Response) -> Response:
    """The response with all of the noise."""
    headers = response.headers
    headers["X-Trace"] = str(uuid.uuid4())  # 1
    headers["X-Served-In"] = f"{random.uniform(0.001, 0.09):.4f}"  # 2
    headers["ETag"] = f'W/"{secrets.token_hex(8)}"'  # 3
    headers["Last-Modified"] = http_date(time.time() - random.randrange(5))  # 4
    cookie = f"visit={uuid.uuid4()}; Path=/; HttpOnly; SameSite=Lax"
    headers.add("Set-Cookie", cookie)  # 5
    text = response.get_data(as_text=True)
    if "</body>" in text:
        response.set_data(_in_page(text))
    return response


def _in_page(text: str) -> str:
    now = time.time()
    ads = "".join(f'<li class="ad">{one}</li>' for one in random.sample(_ADS, len(_ADS)))  # 6
    classes = " ".join(random.sample(("wide", "warm", "new"), 3))  # 7
    widget = "".join(random.choices(string.ascii_lowercase + string.digits, k=8))
    head = (
        f'<meta name="csrf-token" content="{secrets.token_hex(16)}">\n'  # 8
        f'<script src="/tick.js?v={int(now)}"></script>\n'  # 9
        f'<script nonce="{secrets.token_hex(12)}">var started = {now:.3f};</script>\n'  # 10, 11
    )
    form = f'<input type="hidden" name="token" value="{secrets.token_hex(16)}">'  # 12
    top = f'<ul id="ads" class="{classes}">{ads}</ul>\n'
    bottom = (
        f'<div class="box"><label for="w-{widget}">Tell me more</label> '  # 13
        f'<input id="w-{widget}" type="checkbox"></div>\n'
        f'<p id="counter">{next(_visits):,} visits</p>\n'  # 14
        f'<p id="online">{random.randrange(20, 80)} people are here</p>\n'  # 15
        f'<p id="clock">{time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))}</p>\n'  # 16
        f'<p id="made">Made in {random.uniform(0.001, 0.09):.4f} s</p>\n'  # 17
        f'<span data-view="{uuid.uuid4()}"></span>\n'  # 18
        f"<!-- web{random.randrange(1, 9):02d} -->\n" + "\n" * random.randrange(5)  # 19  # 20
    )
    text = text.replace("</head>", f"{head}</head>", 1)
    text = text.replace("</form>", f"{form}</form>", 1)
    text = text.replace("<body>\n", f"<body>\n{top}", 1)
    return text.replace("</body>", f"{bottom}</body>", 1)
