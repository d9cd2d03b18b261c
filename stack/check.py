"""`scripts/demo --check`: the main job, once, without a person.

Reads a page from PHP, edits it there in a real session, sees the edit in MongoDB, compares both
sides, which finds a fault that was put in, and the flip is refused; flips the route to Python under
load once that is mended, sees an own edit there at once, kills MongoDB, flips back, kills
Redis, and compares both sides in the end. Every claim is checked against what the visitor got
and against the access log of the proxy. The last line says `main job ok` or which
step failed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from bridge.files import write_atomically
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.telemetry.workers import read_all
from stack.errors import StackError
from stack.site import LOGIN, DemoSite
from stack.visitor import Readers, Visitor
from stack.waiting import wait_for

__all__ = ["AccessLog", "MainJob", "run_check"]

PROJECT = "bash"
"""A project that every Debian machine has, so it is in every forge made from one."""

ROUTE = "project"
REQUESTS_BEFORE_FLIP = 100
REQUESTS_AFTER_FLIP = 300
OWN_EDITS = 10
PAGES = 60
"""Pages that are compared: enough to say with certainty that fewer than `ALLOWED` are different."""
ALLOWED = "5%"
VIEWS = "examples.forge.consumer.views"
FAULTY = f"""\
# A project page that has lost an attribute, to be found by `bridgectl compare`.
from {VIEWS} import project as good


def project(request, name):
    response = good(request, name)
    response.set_data(response.get_data().replace(b' rel="nofollow"', b""))
    return response
"""
FRESHNESS_COOKIE = "bv"


class CheckFailed(StackError):
    """A step of the main job did not happen as it must."""


class AccessLog:
    """The access log of `bridgectl serve --access-log`: one JSON object a line.

    Used keys: path, route, backend, reason, fallback, status.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def end(self) -> int:
        """Where the next entry will begin, in bytes."""
        return self.file.stat().st_size if self.file.exists() else 0

    def entries(self, path: str, since: int = 0) -> list[dict[str, Any]]:
        """The entries for `path` that were written after byte `since`."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as stream:
            stream.seek(since)
            # What follows the last line end is an entry that is being written.
            lines = stream.read().rpartition(b"\n")[0].splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if entry["path"] == path]


class MainJob:
    """The steps, in order; `numbers` is what they measured, for the last line."""

    def __init__(self, site: DemoSite) -> None:
        self.site = site
        self.page = f"/project/{PROJECT}"
        self.log = AccessLog(site.access_log)
        self.visitor = Visitor(site.url)
        self.body = b""
        self.numbers: list[str] = []
        self.steps: list[tuple[str, Callable[[], str]]] = [
            ("the page comes from PHP while its route is at 0%", self.read_from_php),
            ("a visitor logs in and edits the project in PHP", self.edit_in_php),
            ("the edit is in MongoDB", self.see_edit_in_mongodb),
            ("a fault of Python's page is found before anybody sees it", self.find_a_fault),
            ("once it is mended, both sides answer alike", self.find_none),
            ("the route goes to Python under load", self.flip_under_load),
            ("a visitor sees the own edits at once", self.see_own_edits),
            ("MongoDB is killed, PHP answers", self.lose_mongodb),
            ("the route goes back to PHP", self.flip_back),
            ("Redis is killed and comes back empty; an edit meanwhile", self.lose_redis),
            ("both sides are equal", self.compare),
            ("a damage in MongoDB is found and healed", self.heal),
        ]

    def read_from_php(self) -> str:
        """(1) The route is at 0%: PHP answers, and the log says so."""

        def are_ready() -> bool:
            workers = read_all(self.site.state)
            return len(workers) == self.site.proxy.workers and not any(w.error for w in workers)

        # Handlers are imported aside, and a busy machine takes its time for that.
        wait_for(are_ready, 60, "workers with their handlers")
        self._page_from("php", "share")
        return f"{len(self.body):,} bytes"

    def edit_in_php(self) -> str:
        """(2) Log in, then send the edit form with its token."""
        self.summary = f"Edited by the main job at {time.time_ns()} – “quotes” & <brackets>"
        with Visitor(self.site.url) as maintainer:
            maintainer.log_in(*LOGIN)
            maintainer.edit(f"{self.page}/edit", summary=self.summary)
        self.edited = time.perf_counter()
        return "answered with a redirect"

    def see_edit_in_mongodb(self) -> str:
        """(3) Wait for the edit there; the time is from the answer to the POST."""
        database = self.site.database()
        with database.client:
            wait_for(
                lambda: database.projects.find_one({"_id": PROJECT, "summary": self.summary}),
                what="the new summary in MongoDB",
                interval=0.0005,
            )
            after = (time.perf_counter() - self.edited) * 1000
            version = database.projects.find_one({"_id": PROJECT})["_v"]  # type: ignore[index]
        self.numbers.append(f"edit visible in MongoDB after {after:.0f} ms")
        return f"after {after:.1f} ms, as version {version}"

    def find_a_fault(self) -> str:
        """(4) The project page gets a handler that has lost something: `compare` names it, and the
        flip is refused."""
        (self.site.directory / "faulty.py").write_text(FAULTY, encoding="utf-8")
        self._handler(f"{VIEWS}:project", "faulty:project")
        words = ("compare", *self._pages(), "--rate", "0", "-o", "json")
        found = json.loads(self.site.bridge(*words, status=1))
        places = [(one["what"], one["place"]) for one in found["differences"]]
        if len(places) != 1 or "@rel" not in places[0][1]:
            raise CheckFailed(f"the lost attribute had to be found, and nothing else: {places}")
        said = self.site.bridge(*self._carefully("100%"), status=5)
        self.numbers.append("a seeded fault found before the flip")
        (routes,) = found["routes"]
        return f"{places[0][1]}, on {routes['different']} of {routes['compared']} pages{said}"

    def find_none(self) -> str:
        """(5) With the handler as it should be there is evidence enough for a flip."""
        self._handler("faulty:project", f"{VIEWS}:project")
        words = ("compare", *self._pages(), "--rate", "0", "-o", "json")
        (routes,) = json.loads(self.site.bridge(*words))["routes"]
        if routes["same"] != PAGES:
            raise CheckFailed(f"{PAGES} pages had to be the same: {routes}")
        return f"{routes['same']} pages are the same"

    def _pages(self) -> list[str]:
        """The pages of some projects."""
        database = self.site.database()
        with database.client:
            names = [one["_id"] for one in database.projects.find({"_del": None}).limit(PAGES)]
        if len(names) < PAGES:
            raise CheckFailed(f"{PAGES} projects had to be there, not {len(names)}")
        return [f"/project/{quote(name)}" for name in names]

    def _handler(self, old: str, new: str) -> None:
        """Give a route another handler, and wait until the workers have it."""
        text = self.site.routes.read_text(encoding="utf-8")
        if text.count(f"handler: {old}\n") != 1:
            raise CheckFailed(f"routes.yaml had to have the handler {old} once")
        text = text.replace(f"handler: {old}\n", f"handler: {new}\n")
        write_atomically(self.site.routes, text)
        digest = load(self.site.routes, handlers=Handlers.NAMED).digest

        def have_it() -> bool:
            return all(one.digest == digest and not one.error for one in read_all(self.site.state))

        wait_for(have_it, 30, "the workers with the other handler")

    def _carefully(self, share: str) -> tuple[str, ...]:
        why = "main job: with evidence"
        return ("flip", ROUTE, share, "--why", why, "--require", f"different<{ALLOWED}")

    def flip_under_load(self) -> str:
        """(6) Readers all the time: none may fail, and none may see other bytes."""
        self._page_from("php", "share")
        if b"Edited by the main job" not in self.body:
            raise CheckFailed("PHP does not show the edit")
        start = self.log.end()
        with Readers(self.site.url + self.page, self.body) as readers:
            wait_for(lambda: readers.requests > REQUESTS_BEFORE_FLIP, 30, "requests before it")
            self.site.bridge(*self._carefully("100%"))

            def python_alone() -> bool:
                last = self.log.entries(self.page, start)[-REQUESTS_AFTER_FLIP:]
                return len(last) == REQUESTS_AFTER_FLIP and all(map(answered_by_python, last))

            wait_for(python_alone, 30, "Python alone answering the readers", interval=0.1)
        if readers.failures:
            raise CheckFailed(
                f"{len(readers.failures)} of {readers.requests} requests failed, "
                f"the first: {readers.failures[0]}"
            )
        self._page_from("python", "share")
        entries = self.log.entries(self.page, start)
        by_python = sum(map(answered_by_python, entries))
        self.numbers.append(f"{readers.requests:,} requests under the flip, 0 failed")
        self.numbers.append(f"Python’s page equals PHP’s, {len(self.body):,} bytes")
        return (
            f"{len(entries) - by_python:,} answers from PHP, {by_python:,} from Python, same bytes"
        )

    def see_own_edits(self) -> str:
        """(7) Save, then read from Python with the cookie that says what was saved: it is there.

        The reader has no session, because those go to PHP anyway.
        """
        start = self.log.end()
        with Visitor(self.site.url) as maintainer, Visitor(self.site.url) as reader:
            maintainer.log_in(*LOGIN)
            for number in range(OWN_EDITS):
                summary = f"Own edit {number} at {time.time_ns()}"
                maintainer.edit(f"{self.page}/edit", summary=summary)
                cookie = maintainer.session.cookies.get(FRESHNESS_COOKIE)
                if cookie is None:
                    raise CheckFailed("PHP did not say in a cookie what was saved")
                reader.session.cookies.clear()
                reader.session.cookies.set(FRESHNESS_COOKIE, cookie)
                if summary.encode() not in reader.get(self.page).content:
                    raise CheckFailed(f"own edit {number} was not to be seen")

        def logged() -> int:
            # The edit form is another path; every entry is one of the reader's.
            entries = self.log.entries(self.page, start)
            return len(entries) == OWN_EDITS and sum(map(answered_by_python, entries))

        by_python = wait_for(logged, what="the readings in the access log, from Python")
        wait_for(
            lambda: self._page_from("python", "share") and summary.encode() in self.body,
            what="the last of them for everybody",
        )
        self.numbers.append(f"{OWN_EDITS} own edits seen at once")
        return f"{OWN_EDITS} edits; {by_python} of them read from Python, the rest from PHP"

    def lose_mongodb(self) -> str:
        """(8) SIGKILL: the same page, for two seconds from memory, then from PHP; MongoDB comes
        back."""
        self.site.mongod.kill()
        before = self.body
        from_memory = 0

        def from_php() -> dict[str, Any] | None:
            nonlocal from_memory
            entry = self._ask()
            if self.body != before:
                raise CheckFailed("with MongoDB killed the page is another one")
            from_memory += answered_by_python(entry)
            return entry if entry["backend"] == "php" else None

        entry = wait_for(from_php, 10, "PHP standing in for Python") or {}
        why = entry.get("fallback") or entry["reason"]
        if why == "share":
            raise CheckFailed(f"the log does not say that PHP stood in for Python: {entry}")
        self.site.mongod.start()
        self.numbers.append(f"with MongoDB killed PHP answered in {entry['ms']:.0f} ms")
        return (
            f"{from_memory:,} answers from memory, then PHP in {entry['ms']:.0f} ms, "
            f"reason: {why}; MongoDB runs again"
        )

    def flip_back(self) -> str:
        """(9) 0%: PHP answers because it is its turn, not as a stand-in."""
        self._flip("0%", "main job: back to PHP")

        def php_again() -> bool:
            entry = self._ask()
            by_turn = entry["reason"] == "share" and not entry.get("fallback")
            return by_turn and bool(entry["backend"] == "php")

        wait_for(php_again, 10, "PHP answering again")
        self.numbers.append("flipped back")
        return "and the log says so"

    def lose_redis(self) -> str:
        """(10) The edit is only in PHP's outbox; it arrives when Redis is back, with nothing."""
        summary = f"Edited without Redis at {time.time_ns()}"
        self.site.redis.kill()
        with Visitor(self.site.url) as maintainer:
            maintainer.log_in(*LOGIN)
            started = time.perf_counter()
            maintainer.edit(f"{self.page}/edit", summary=summary)
            took = (time.perf_counter() - started) * 1000
        for file in self.site.redis.directory.rglob("*.aof*"):
            file.unlink()
        self.site.redis.start()
        database = self.site.database()
        with database.client:
            wait_for(
                lambda: database.projects.find_one({"_id": PROJECT, "summary": summary}),
                60,
                "the edit that was made without Redis",
            )
        self.numbers.append("an edit without Redis arrived")
        return f"saved in {took:.0f} ms, and in MongoDB after Redis came back empty"

    def compare(self) -> str:
        """(11) Every row against every document, their contents too."""
        report = json.loads(self.site.bridge("reconcile", "--deep", "-o", "json"))
        self.numbers.append("both sides equal")
        return ", ".join(f"{one['entity']}: {one['rows']:,}" for one in report["entities"])

    def heal(self) -> str:
        """(12) One document changed by hand and one gone: reconcile says so, and repairs both."""
        quick = ("reconcile", "--deep", "--wait", "1s")
        database = self.site.database()
        with database.client:
            release = database.releases.find_one({"project": PROJECT, "_del": None})
            if release is None:
                raise CheckFailed(f"MongoDB has no release of {PROJECT}")
            database.projects.update_one({"_id": PROJECT}, {"$set": {"summary": "damaged"}})
            database.releases.delete_one({"_id": release["_id"]})
            found = self.site.bridge(*quick, status=1)
            if release["_id"] not in found:
                raise CheckFailed(f"reconcile does not name {release['_id']}: {found}")
            self.site.bridge(*quick, "--repair")
            healed = database.projects.find_one({"_id": PROJECT})
            if healed is None or healed["summary"] == "damaged":
                raise CheckFailed("the document is still damaged")
            again = database.releases.find_one({"_id": release["_id"]})
            if again is None or {**again, "_at": 0} != {**release, "_at": 0}:
                raise CheckFailed("the release did not come back as it was")
        self.numbers.append("a damage found and healed")
        return "one changed, one deleted; both are as before"

    def _ask(self) -> dict[str, Any]:
        """GET the page, keep its body; what the log says of this request."""
        start = self.log.end()
        answer = self.visitor.get(self.page)
        if answer.status_code != 200:
            raise CheckFailed(f"{self.page} was answered with {answer.status_code}")
        self.body = answer.content
        entries = wait_for(
            lambda: self.log.entries(self.page, start), what="the request in the access log"
        )
        return entries[0]

    def _page_from(self, backend: str, reason: str | None = None) -> dict[str, Any]:
        """Ask for the page and insist on who answers; `reason` also rules out a stand-in."""
        entry = self._ask()
        wrong_reason = reason is not None and (entry["reason"] != reason or entry.get("fallback"))
        if entry["backend"] != backend or entry["route"] != ROUTE or wrong_reason:
            raise CheckFailed(f"{backend} had to answer {self.page}, but the log says: {entry}")
        return entry

    def _flip(self, share: str, why: str) -> None:
        """`bridgectl flip`, as the operator types it."""
        self.site.bridge("flip", ROUTE, share, "--why", why)


def answered_by_python(entry: dict[str, Any]) -> bool:
    """Whether this entry of the access log is of an answer from Python."""
    return bool(entry["backend"] == "python")


def run_check(home: Path, console: Console) -> int:
    """Run the main job in a new directory under `home`; the exit code.

    The directory is removed after a success and kept after a failure.
    """
    directory = _own_directory(home)
    began = time.monotonic()

    def say(line: str) -> None:
        elapsed = f"[{time.monotonic() - began:5.1f} s]"
        console.print(f"{elapsed} {line}", markup=False, highlight=False)

    doing = "start the site"
    site = DemoSite(directory, progress=say)
    try:
        with site:
            job = MainJob(site)
            for number, (doing, step) in zip(itertools.count(1), job.steps, strict=False):
                say(f"{number}. {doing}: {step()}")
            job.visitor.close()
            doing = "stop the site"
        left = [server for server in site.servers if server.processes()]
        if left:
            raise CheckFailed(f"still running: {left}")
        say("stopped; nothing is left running")
    except Exception as error:
        say(f"main job failed at: {doing}")
        if not isinstance(error, StackError):
            console.print_exception()
        console.print(site.log_tails(), markup=False, highlight=False)
        say(f"main job failed at: {doing}: {error}")
        say(f"all files are kept in {directory}")
        return 1
    shutil.rmtree(directory)
    console.print(f"main job ok: {'; '.join(job.numbers)}", markup=False, highlight=False)
    return 0


def _own_directory(home: Path) -> Path:
    """A new directory named after this process; those of processes that ended are removed."""
    home.mkdir(parents=True, exist_ok=True)
    for old in home.iterdir():
        if not (old.name.isdigit() and Path("/proc", old.name).exists()):
            shutil.rmtree(old, ignore_errors=True)
    directory = home / str(os.getpid())
    shutil.rmtree(directory, ignore_errors=True)
    return directory
