"""The PHP side as a visitor meets it: login, forms, uploads, files, search, error pages."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import requests

from stack.waiting import wait_for
from tests.examples.forge_site import Site, token_of


def file_path(site: Site) -> tuple[str, int]:
    """The mirror's path of a file, and its size."""
    release = site.releases("bash")[0]
    return f"/mirror/bash/{quote(release['filename'])}", release["size"]


def test_a_visitor_without_login_gets_no_cookie(site: Site) -> None:
    for path in ("/", "/project/bash", "/search?q=shell", "/no-such-page"):
        assert "set-cookie" not in dict(site.ask(path).headers)


def test_a_broken_session_cookie_is_no_session(site: Site) -> None:
    answer = site.ask("/", headers={"Cookie": "PHPSESSID=../../etc/passwd"})
    assert answer == site.ask("/")


def test_the_right_password_logs_in_and_the_page_says_so(site: Site) -> None:
    with site.login() as visitor:
        assert "| maintainer <input" in visitor.get(site.url + "/project/bash").text


def test_login_changes_the_session_id(site: Site) -> None:
    with requests.Session() as visitor:
        token = token_of(visitor, site.url + "/login")
        before = visitor.cookies["PHPSESSID"]
        form = {"user": "maintainer", "password": "secret", "token": token}
        visitor.post(site.url + "/login", form, allow_redirects=False)
        assert visitor.cookies["PHPSESSID"] != before


@pytest.mark.parametrize(("user", "password"), [("maintainer", "Secret"), ("nobody", "secret")])
def test_a_wrong_password_does_not_log_in(site: Site, user: str, password: str) -> None:
    with requests.Session() as visitor:
        token = token_of(visitor, site.url + "/login")
        form = {"user": user, "password": password, "token": token}
        answer = visitor.post(site.url + "/login", form, allow_redirects=False)
        assert answer.status_code == 403
        assert "Name or password is wrong" in answer.text


def test_logout_ends_the_session(site: Site) -> None:
    with site.login() as visitor:
        token = token_of(visitor, site.url + "/")
        cookie = visitor.cookies["PHPSESSID"]
        visitor.post(site.url + "/logout", {"token": token}, allow_redirects=False)
        assert "PHPSESSID" not in visitor.cookies
    answer = site.ask("/upload", headers={"Cookie": f"PHPSESSID={cookie}"})
    assert answer.status == 303


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_login_never_leads_to_another_site(site: Site, target: str) -> None:
    with requests.Session() as visitor:
        token = token_of(visitor, site.url + "/login?next=" + quote(target))
        form = {"user": "maintainer", "password": "secret", "token": token, "next": target}
        answer = visitor.post(site.url + "/login", form, allow_redirects=False)
        assert answer.headers["Location"] == "/"


def test_who_is_not_logged_in_is_asked_to_before_editing(site: Site) -> None:
    answer = site.ask("/project/bash/edit")
    assert answer.status == 303
    assert ("location", "/login?next=%2Fproject%2Fbash%2Fedit") in answer.headers


def test_an_edit_raises_the_version_and_publishes_the_full_state(site: Site) -> None:
    before = site.project("bash")
    with site.login() as visitor:
        answer, event = site.save(visitor, "bash", summary="Bourne again <shell>")
    assert answer.headers["Location"] == "/project/bash"
    assert (event.entity, event.change, event.key) == ("project", "changed", "bash")
    assert event.version == before["_v"] + 1
    assert event.data.keys() == before.keys() - {"_id", "_v", "_at"}
    assert event.data["summary"] == "Bourne again <shell>"
    assert event.data["size_kb"] == before["size_kb"]
    assert site.project("bash")["updated"] >= before["updated"]


@pytest.mark.parametrize("token", ["", "0" * 32])
def test_a_form_without_the_sessions_token_changes_nothing(site: Site, token: str) -> None:
    before = site.ask("/project/bash")
    with site.login() as visitor:
        answer = site.edit(visitor, "bash", summary="forged", token=token)
    assert answer.status_code == 403
    assert "Form refused" in answer.text
    assert site.ask("/project/bash") == before
    assert site.take_events() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"homepage": "javascript:alert(1)"},
        {"summary": "x" * 256},
        {"summary": b"Latin-1: \xe9"},
    ],
    ids=["homepage runs a script", "too long", "no UTF-8"],
)
def test_a_form_that_cannot_be_saved_is_shown_again(site: Site, changes: dict[str, Any]) -> None:
    with site.login() as visitor:
        answer = site.edit(visitor, "bash", **changes)
    assert answer.status_code == 422
    assert '<p class="wrong">' in answer.text
    assert site.take_events() == []


def test_edits_at_the_same_time_each_get_a_version_of_their_own(site: Site) -> None:
    before = site.project("bash")["_v"]

    def edit(number: int) -> int:
        # A session each: PHP answers the requests of one session one after the other.
        with site.login() as visitor:
            return site.edit(visitor, "bash", summary=f"edit {number}").status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(edit, range(8))) == {303}
    seen: list[int] = []

    def all_arrived() -> bool:
        seen.extend(event.version for event in site.fill_mirror())
        return len(seen) == 8

    wait_for(all_arrived, what="8 events")
    assert sorted(seen) == list(range(before + 1, before + 9))


def test_an_uploaded_release_is_published_listed_and_can_be_downloaded(
    site: Site,
) -> None:
    content = bytes(range(256)) * 700
    with site.login() as visitor:
        form = {"project": "bash", "version": "9.9~rc1", "architecture": "all"}
        form["token"] = token_of(visitor, site.url + "/upload")
        files = {"file": ("bash-9.9~rc1.tar.gz", content)}
        answer = visitor.post(site.url + "/upload", form, files=files, allow_redirects=False)
        assert answer.status_code == 303, answer.text
        event = site.mirror_next()
        again = visitor.post(site.url + "/upload", form, files=files, allow_redirects=False)
        assert again.status_code == 422
        assert "such a release or file already" in again.text
    assert (event.entity, event.key, event.version) == ("release", "bash/9.9~rc1/all", 1)
    assert event.data["size"] == len(content)
    assert event.data["sha256"] == hashlib.sha256(content).hexdigest()
    assert b"bash-9.9~rc1.tar.gz" in site.ask("/project/bash/releases").body
    [target] = [
        value
        for name, value in site.ask("/download/bash/bash-9.9~rc1.tar.gz").headers
        if name == "location"
    ]
    assert site.ask(target).body == content


@pytest.mark.parametrize(
    "changes",
    [{"project": "no-such-project"}, {"version": "1/2"}, {"architecture": "A B"}],
    ids=["project", "version", "architecture"],
)
def test_an_upload_with_an_impossible_field_is_refused(site: Site, changes: dict[str, str]) -> None:
    with site.login() as visitor:
        token = token_of(visitor, site.url + "/upload")
        form = {"project": "bash", "version": "1", "architecture": "all", "token": token, **changes}
        answer = visitor.post(site.url + "/upload", form, files={"file": ("a.tar", b"x")})
    assert answer.status_code == 422


@pytest.mark.parametrize("name", ["a.php", "A.PHP", ".htaccess", "a b", "ä.tar", 'a"b', "-x"])
def test_an_upload_with_an_awkward_file_name_is_refused(site: Site, name: str) -> None:
    with site.login() as visitor:
        form = {"project": "bash", "version": "1", "architecture": "all"}
        form["token"] = token_of(visitor, site.url + "/upload")
        answer = visitor.post(site.url + "/upload", form, files={"file": (name, b"x")})
    assert answer.status_code == 422


def test_an_upload_without_the_token_is_refused(site: Site) -> None:
    with site.login() as visitor:
        form = {"project": "bash", "version": "7", "architecture": "all"}
        answer = visitor.post(site.url + "/upload", form, files={"file": ("a.tar", b"x")})
    assert answer.status_code == 403


def test_a_files_bytes_are_those_of_its_release(site: Site) -> None:
    release = site.releases("bash")[0]
    answer = site.ask(f"/mirror/bash/{quote(release['filename'])}")
    assert len(answer.body) == release["size"]
    assert hashlib.sha256(answer.body).hexdigest() == release["sha256"]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=5000-", slice(5000, None)),
        ("bytes=-10", slice(-10, None)),
        ("bytes=-999999999", slice(0, None)),
        ("bytes=5000-999999999", slice(5000, None)),
    ],
)
def test_a_part_of_a_file_is_sent_as_206(site: Site, asked: str, part: slice) -> None:
    path, size = file_path(site)
    whole = site.ask(path).body
    answer = site.ask(path, headers={"Range": asked})
    first, last, _ = part.indices(size)
    assert answer.status == 206
    assert answer.body == whole[part]
    assert dict(answer.headers)["content-range"] == f"bytes {first}-{last - 1}/{size}"


@pytest.mark.parametrize("asked", ["bytes=5-3", "bytes=-", "lines=1-2", "bytes=0-1,5-9", "bytes"])
def test_a_range_that_makes_no_sense_is_ignored(site: Site, asked: str) -> None:
    path, size = file_path(site)
    answer = site.ask(path, headers={"Range": asked})
    assert (answer.status, len(answer.body)) == (200, size)


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0"])
def test_a_range_outside_of_the_file_is_416(site: Site, asked: str) -> None:
    path, size = file_path(site)
    answer = site.ask(path, headers={"Range": asked})
    assert answer.status == 416
    assert dict(answer.headers)["content-range"] == f"bytes */{size}"


def test_a_part_is_sent_only_while_the_file_is_the_same(site: Site) -> None:
    path, size = file_path(site)
    headers = dict(site.ask(path, "HEAD").headers)
    for condition, status in (
        (headers["etag"], 206),
        (headers["last-modified"], 206),
        ('"another"', 200),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
    ):
        answer = site.ask(path, headers={"Range": "bytes=0-9", "If-Range": condition})
        assert (answer.status, len(answer.body)) == (status, 10 if status == 206 else size)


def test_a_file_that_the_visitor_holds_is_not_sent_again(site: Site) -> None:
    path, _ = file_path(site)
    headers = dict(site.ask(path, "HEAD").headers)
    for name, value, status in (
        ("If-None-Match", headers["etag"], 304),
        ("If-None-Match", f'"other", W/{headers["etag"]}', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"other"', 200),
        ("If-Modified-Since", headers["last-modified"], 304),
        ("If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT", 200),
        ("If-Modified-Since", "nonsense", 200),
    ):
        answer = site.ask(path, headers={name: value})
        assert answer.status == status, (name, value)
        assert (answer.body == b"") == (status == 304)


def test_search_finds_by_name_and_summary_and_takes_signs_as_they_are(site: Site) -> None:
    with site.login() as visitor:
        site.save(visitor, "bash", summary="100% SHELL")
    assert b'href="/project/bash"' in site.ask("/search?q=BASH").body
    assert b'href="/project/bash"' in site.ask("/search?q=100%25%20shell").body
    for nothing in ("ba_h", "b%25h", "%27%20OR%201=1", "%5C"):
        assert b'href="/project/bash"' not in site.ask(f"/search?q={nothing}").body
    assert site.ask("/index.php?page=search&q=bash").body == site.ask("/search?q=bash").body


def test_the_searched_words_are_shown_as_text(site: Site) -> None:
    assert b'value="&quot;&gt;&lt;script&gt;"' in site.ask("/search?q=%22%3E%3Cscript%3E").body


@pytest.mark.parametrize(
    "path", ["/no-such-page", "/project/nothing", "/index.php?page[]=x", "/index.php?page=../x"]
)
def test_an_unknown_page_is_the_sites_own_404(site: Site, path: str) -> None:
    answer = site.ask(path)
    assert answer.status == 404
    assert b"<h1>Page not found</h1>" in answer.body


def test_a_failing_page_is_the_sites_own_500_and_says_nothing_of_the_inside(site: Site) -> None:
    answer = site.ask("/broken")
    assert answer.status == 500
    assert b"<h1>Something went wrong</h1>" in answer.body
    assert b"on purpose" not in answer.body


def test_a_method_that_a_page_does_not_know_is_405(site: Site) -> None:
    answer = site.ask("/project/bash", "DELETE")
    assert answer.status == 405
    assert dict(answer.headers)["allow"] == "GET, HEAD"


def test_the_style_sheet_is_served_as_one(site: Site) -> None:
    assert dict(site.ask("/style.css").headers)["content-type"].startswith("text/css")


def test_php_had_nothing_to_complain_about(site: Site) -> None:
    """Runs last in this file: every page above has been asked for."""
    server = site.server
    logs = [server.log_text()] if hasattr(server, "log_text") else [server.log.read_text()]
    if hasattr(server, "fpm"):
        logs.append(server.fpm.log_text())
    for log in logs:
        for line in log.splitlines():
            assert "Warning" not in line, line
            assert "Deprecated" not in line, line
            assert "PHP message" not in line or "on purpose" in line, line
