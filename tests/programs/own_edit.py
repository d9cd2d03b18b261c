"""WordPress behind the bridge, mirrored from the log of its database. Editors change their posts
through the bridge, and look at once at the page that Python answers, or legacy, while others read
and the process that reads the log is stopped and goes on again.

WordPress is as Debian has it: no line of it knows of the bridge.
"""

from __future__ import annotations

import json
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Self
from uuid import uuid4

import requests

from stack.bridge import BridgeServe, BridgeWsgi
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.redis import Redis
from stack.wordpress import WordPress
from tests.acceptance.bridge_site import run_bridge
from tests.programs.logged import Logged
from tests.programs.own_pages import PYTHON
from tests.programs.wordpress import Administrator

__all__ = ["SHELLS", "Blog", "Click", "Editor", "Tally", "edit", "loaded", "paused"]

SHELLS = ("serve", "gunicorn")
EDITORS = 4
POSTS = 3
"""Posts of each editor."""
LONG_PAUSE = 3.0
"""Seconds; nobody waits as long for the mirror."""
ROUTES = """\
version: 1
sites:
  blog: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - name: post-by-store
    path: "/archives/<int:post>"
    query: {by: store}
    handler: "tests.programs.own_pages:by_store"
    reads: [wp_posts, wp_comments]
    python: 100%
  - name: post-by-pymongo
    path: "/archives/<int:post>"
    query: {by: pymongo}
    handler: "tests.programs.own_pages:by_pymongo"
    reads: [wp_posts, wp_comments]
    python: 100%
  - {name: admin, path: "/wp-admin/<path:rest>", methods: [GET, HEAD, POST], writes: true}
  - {name: rest, path: /index.php, methods: [GET, HEAD, OPTIONS, POST, DELETE], writes: true}
"""


class Blog:
    """All servers of the site but the bridge itself, which `behind` starts. A context manager."""

    def __init__(self, folder: Path, mariadb: MariaDB, mongodb: Mongod, redis: Redis) -> None:
        self.folder, self.mongodb, self.redis = folder, mongodb, redis
        self.wordpress = WordPress(folder / "program", mariadb, database="blog", workers=6)
        routes = folder / "routes.yaml"
        self.env = {
            "BRIDGE_BROKER_URL": redis.url,
            "BRIDGE_MONGODB_URL": mongodb.url_of("blog"),
            "BRIDGE_FRESHNESS_KEYS": "a1:a secret of this blog alone".replace(" ", "-"),
            "BRIDGE_ROUTES": str(routes),
            "BRIDGE_STATE_DIR": str(folder / "state"),
        }
        serve = BridgeServe(folder / "serve", env={}, workers=2)
        gunicorn = BridgeWsgi(folder / "gunicorn", env={}, workers=2)
        # The address of a WordPress is in its database, so that both are at the same one.
        gunicorn.port = serve.port
        self.shells: dict[str, BridgeServe | BridgeWsgi] = {"serve": serve, "gunicorn": gunicorn}
        self.address, self.url = serve.address, serve.url
        text = ROUTES.replace("@ADDRESS@", self.address).replace("@PHP@", self.wordpress.url)
        folder.mkdir(parents=True, exist_ok=True)
        routes.write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        with ExitStack() as running:
            running.enter_context(self.wordpress)
            self.wordpress.install(self.address)
            client = running.enter_context(self.mongodb.client())
            client.drop_database("blog")
            mirrored = Logged(
                self.folder / "mirror", "blog", mariadb=self.wordpress.mariadb,
                mongodb=self.mongodb, redis=self.redis, database=client["blog"],
            )  # fmt: skip
            self.mirrored = running.enter_context(mirrored)
            self.env |= {name: mirrored.env[name] for name in ("BRIDGE_SYNC", "BRIDGE_SQL_URL")}
            self._running = running.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    @contextmanager
    def behind(self, shell: str) -> Iterator[None]:
        """Inside, visitors are answered by this shell of the bridge."""
        server = self.shells[shell]
        server.env |= self.env
        with server:
            yield

    def begin(self) -> None:
        """Let every post have an address of its own, which legacy and Python share."""
        with self.behind("serve"):
            administrator = self.administrator()
            administrator.form(
                "options-permalink.php", "options-permalink.php",
                selection="custom", permalink_structure="/archives/%post_id%",
            )  # fmt: skip
            self.posts = [
                [int(self._new(administrator, number)) for _ in range(POSTS)]
                for number in range(EDITORS)
            ]

    def _new(self, administrator: Administrator, number: int) -> int:
        made = administrator.rest("POST", "posts", title=f"of editor {number}", status="publish")
        return int(made["id"])

    def administrator(self) -> Administrator:
        """Somebody who has logged in through the bridge."""
        here: Any = SimpleNamespace(
            url=self.url, user=self.wordpress.user, password=self.wordpress.password
        )
        return Administrator(here)

    def counts(self) -> dict[str, dict[str, int]]:
        """What `bridgectl status` says of visitors' own edits: how pages had them, and what became
        of the questions for the log's end."""
        told = json.loads(run_bridge("status", "-o", "json", env=self.env).stdout)
        return {name: told[name] for name in ("freshness", "log_ends")}


class Click(NamedTuple):
    """What a visitor saw who looked right after an edit. by_python: or else legacy has answered.
    stale: in words, where it is older than the edit."""

    what: str
    by_python: bool
    stale: str


@dataclass
class Tally:
    """clicks: by what was done before, and who has answered. stale: in words."""

    clicks: Counter[tuple[str, bool]] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    pauses: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, click: Click) -> None:
        with self._lock:
            self.clicks[click.what, click.by_python] += 1
            if click.stale:
                self.stale.append(f"{click.what}: {click.stale}")

    def told(self) -> dict[str, Any]:
        """The figures."""
        sides = Counter[str]()
        for (_, by_python), count in self.clicks.items():
            sides["python" if by_python else "legacy"] += count
        whats = Counter[str]()
        for (what, _), count in self.clicks.items():
            whats[what] += count
        return {
            "edits": self.clicks.total(), "stale": len(self.stale), "answers": dict(sides),
            "by": dict(whats), "pauses": dict(self.pauses), "others": dict(self.others),
        }  # fmt: skip


class Editor:
    """Somebody who changes posts of their own and looks at them. forgetful: whether their browser
    loses the cookie of the bridge after each edit."""

    def __init__(self, blog: Blog, number: int, seed: int, *, forgetful: bool = False) -> None:
        self.blog, self.number, self.forgetful = blog, number, forgetful
        self.posts = blog.posts[number]
        self.random = random.Random(f"{seed} {number}")
        self.administrator = blog.administrator()
        self.session = self.administrator.session

    def go_on(self) -> Iterator[Click]:
        """One or several edits, and a look after each."""
        way: Callable[[int], Iterator[Click]] = self.random.choices(
            [self._rest, self._quick, self._get, self._trash, self._comment], [70, 12, 6, 6, 6]
        )[0]
        yield from way(self.random.choice(self.posts))

    def _name(self) -> str:
        """A text that nobody has written before, in this run or in another one."""
        return f"title {uuid4()} end"

    def _rest(self, post: int) -> Iterator[Click]:
        """As the editor in the browser does it."""
        title = self._name()
        self.administrator.rest("POST", f"posts/{post}", title=title)
        yield self._look("rest", post, title)

    def _quick(self, post: int) -> Iterator[Click]:
        """The form in the list of posts."""
        page = self.session.get(self.administrator.page("edit.php"))
        [nonce] = re.findall(r'name="_inline_edit" value="(\w+)"', page.text)
        title = self._name()
        answer = self.session.post(
            self.administrator.page("admin-ajax.php"),
            data={
                "action": "inline-save", "_inline_edit": nonce, "screen": "edit-post",
                "post_type": "post", "post_ID": post, "post_title": title, "post_view": "list",
                "_status": "publish", "comment_status": "open",
            },
        )  # fmt: skip
        assert title in answer.text, answer.text
        yield self._look("quick edit", post, title)

    def _get(self, post: int) -> Iterator[Click]:
        """A change by GET whose answer is no redirect: the REST interface takes it so."""
        title = self._name()
        route = f"{self.blog.url}/index.php"
        words = {"rest_route": f"/wp/v2/posts/{post}", "_method": "POST", "title": title}
        answer = self.session.get(route, params=words, allow_redirects=False)
        assert (answer.status_code, answer.json()["title"]["raw"]) == (200, title)
        yield self._look("get", post, title)

    def _trash(self, post: int) -> Iterator[Click]:
        """A link of the list of posts, with its nonce; then it is published again."""
        self._follow("edit.php", f"post.php?post={post}&action=trash")
        yield self._look("trash by get", post, "")
        title = self._name()
        self.administrator.rest("POST", f"posts/{post}", title=title, status="publish")
        yield self._look("publish", post, title)

    def _comment(self, post: int) -> Iterator[Click]:
        """Comment it; hide the comment, show it and throw it away by links with nonces."""
        text = self._name()
        self.administrator.comment(post, text)
        yield self._look("comment", post, text)
        [made] = self.administrator.rest("GET", f"comments&post={post}&search={text}")
        for action in ("unapprovecomment", "approvecomment", "trashcomment"):
            self._follow("edit-comments.php", f"comment.php?c={made['id']}&action={action}")
            shown = text if action == "approvecomment" else ""
            yield self._look(f"{action} by get", post, shown, text)

    def _follow(self, page: str, link: str) -> None:
        """Click on a link that is on a page for administrators."""
        opened = self.session.get(self.administrator.page(page))
        links = [unescape(one) for one in re.findall(r"href=[\"']([^\"']+)", opened.text)]
        wanted = _words(link)
        [first, *_] = [one for one in links if wanted <= _words(one.rpartition("/")[2])]
        url = first if "://" in first else self.administrator.page(first)
        answer = self.session.get(url, allow_redirects=False)
        assert answer.status_code == 302, answer.text

    def _look(self, what: str, post: int, shown: str, hidden: str = "") -> Click:
        """The next click. shown: a text that must be there. hidden: one that must not be, where
        shown is empty; neither: no page of the post may be shown by Python."""
        if self.forgetful:
            self.session.cookies.pop("bv", None)
        way = self.random.choice(["store", "pymongo"])
        url = f"{self.blog.url}/archives/{post}"
        answer = self.session.get(url, params={"by": way}, timeout=60)
        by_python = PYTHON in answer.headers
        if shown:
            stale = "" if answer.ok and shown in answer.text else f"{shown!r} is not there"
        elif by_python:  # legacy shows people their own comments, also those that wait
            stale = f"{hidden!r} is still there" if hidden in answer.text else ""
        else:
            stale = ""
        return Click(what, by_python, f"post {post} by {way}: {stale}" if stale else "")


def _words(link: str) -> set[str]:
    """The file of a link and the parts of its query, in any order."""
    return set(re.split("[?&]", link))


@contextmanager
def paused(blog: Blog, tally: Tally, seed: int) -> Iterator[None]:
    """Inside, who reads the log is stopped at random: for seconds at first, and then for a moment
    mostly."""
    chance, end = random.Random(seed), threading.Event()
    capture = blog.mirrored.capture

    def run() -> None:
        seconds = LONG_PAUSE
        while not end.wait(chance.uniform(0.05, 1.0)):
            tally.pauses["long" if seconds == LONG_PAUSE else "short"] += 1
            capture.signal(signal.SIGSTOP)
            try:
                end.wait(seconds)
            finally:
                capture.signal(signal.SIGCONT)
            seconds = LONG_PAUSE if chance.random() < 0.08 else chance.uniform(0.02, 0.4)

    with _threads(end, run):
        yield


@contextmanager
def loaded(blog: Blog, tally: Tally) -> Iterator[None]:
    """Inside, others look at pages of both sides, without any cookie."""
    end = threading.Event()

    def visit(name: str, paths: list[str], pause: float) -> Callable[[], None]:
        def run() -> None:
            with requests.Session() as session:
                while not end.is_set():
                    for path in paths:
                        answer = session.get(f"{blog.url}{path}", timeout=60)
                        assert answer.status_code in (200, 404), answer.status_code
                        tally.others[name] += 1
                        end.wait(pause)

        return run

    posts = [post for some in blog.posts for post in some]
    pages = [f"/archives/{post}?by={way}" for post in posts for way in ("store", "pymongo")]
    with _threads(
        end,
        visit("posts", pages, 0.01),
        visit("posts again", pages[::-1], 0.01),
        visit("legacy", ["/", "/?feed=rss2", "/wp-login.php", "/?s=title"], 0.2),
    ):
        yield


@contextmanager
def _threads(end: threading.Event, *runs: Callable[[], None]) -> Iterator[None]:
    """They run inside; what one of them raises is raised at the end."""
    failed: list[BaseException] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def edit(blog: Blog, tally: Tally, clicks: int, seed: int) -> None:
    """All editors go on until there were so many clicks."""
    editors = [Editor(blog, number, seed) for number in range(EDITORS)]
    end = threading.Event()

    def run(editor: Editor) -> Callable[[], None]:
        def edits() -> None:
            while tally.clicks.total() < clicks:
                for click in editor.go_on():
                    tally.note(click)

        return edits

    with _threads(end, *map(run, editors)):
        pass  # they end by themselves
