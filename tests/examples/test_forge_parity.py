"""The same URL gives the same bytes from PHP and from Python, or Python leaves it to PHP."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.examples.forge_site import Answer, Declined, Site, ask_python

ODD_TEXTS = {
    "quotes": 'it\'s "quoted" & <b>bold</b> &amp; &#39; &quot;',
    "script": "</pre><script>alert('x')</script>",
    "other alphabets": "Größe 日本 עברית \U0001f469\u200d\U0001f467 e\u0301 \u2028 \u00a0 \ufeff",
    "control characters": "NUL \x00 bell \x07 escape \x1b[31m delete \x7f",
    "white space": "\n\n  first line is empty\n\ttab  \n\nlast\n\n",
    "template syntax": "{{ 7 * 7 }} {% raw %} {# #} <?php echo 1 ?> ${x} $PATH $$ROOT %s \\n \\",
    "long": "abc & déf " * 5900,
    "empty": "",
}


def assert_same(site: Site, path: str) -> Answer:
    """Both sides give the same status, headers and body; returns the answer."""
    legacy, ours = site.ask(path), ask_python(path)
    assert ours.status == legacy.status, path
    assert ours.headers == legacy.headers, path
    assert ours.body == legacy.body, path
    return ours


def assert_declined(path: str, headers: dict[str, str] | None = None) -> None:
    with pytest.raises(Declined):
        ask_python(path, headers=headers)


def test_every_page_of_the_project_list_is_the_same(site: Site) -> None:
    assert_same(site, "/")
    names = site.names()
    pages = -(-len(names) // 25)
    text = b"".join(assert_same(site, f"/projects?p={n}").body for n in range(1, pages + 1))
    positions = [text.index(f'href="/project/{quote(name)}"'.encode()) for name in names]
    assert positions == sorted(positions)


def test_project_pages_are_the_same(site: Site) -> None:
    names = site.names()
    with_signs = [name for name in names if not name.isalnum()]
    for name in {*names[:25], *names[-10:], *with_signs[:30]}:
        assert_same(site, f"/project/{quote(name)}")


def test_release_lists_are_the_same(site: Site) -> None:
    largest = site.largest_project()
    for name in [*site.names()[:30], largest]:
        assert_same(site, f"/project/{quote(name)}/releases")
    assert len(site.releases(largest)) > 10, "this machine has no project with two pages"
    assert b"Previous page" in assert_same(site, f"/project/{largest}/releases?p=2").body


def test_downloads_are_redirected_in_the_same_way(site: Site) -> None:
    for release in site.releases()[::20]:
        path = f"/download/{quote(release['project'])}/{quote(release['filename'])}"
        assert assert_same(site, path).status == 302


def test_old_addresses_are_the_same(site: Site) -> None:
    for query in (
        "page=project&name=bash",
        "name=bash&page=project",
        "page=releases&name=bash",
        "page=projects&p=2",
        "page=%70roject&name=b%61sh",
    ):
        assert assert_same(site, f"/index.php?{query}").status == 200


def test_another_spelling_of_a_path_is_the_same(site: Site) -> None:
    for path in ("/project/bash/", "/project/b%61sh", "/projects/", "/project/bash?utm_source=x"):
        assert assert_same(site, path).status == 200


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
def test_odd_text_is_shown_the_same(site: Site, text: str) -> None:
    line = text[:200]
    with site.login() as visitor:
        site.save(
            visitor, "bash", summary=line, description=text, maintainer=line, license=text[:60]
        )
    assert site.project("bash")["description"] == text
    assert_same(site, "/project/bash")
    assert_same(site, f"/projects?p={1 + site.names().index('bash') // 25}")


def test_an_odd_homepage_is_shown_the_same(site: Site) -> None:
    with site.login() as visitor:
        site.save(visitor, "bash", homepage="https://example.org/?a='b'&c=\"d\"<e>é")
    assert b'href="https://example.org/' in assert_same(site, "/project/bash").body


def test_head_has_the_same_headers(site: Site) -> None:
    for path in ("/", "/project/bash", "/project/bash/releases"):
        assert ask_python(path, "HEAD") == site.ask(path, "HEAD")


def test_what_does_not_exist_is_left_to_legacy_and_its_404(site: Site) -> None:
    for path in (
        "/project/no-such-project",
        "/project/Bash",
        "/project/bash%20",
        "/project/bash%0A",
        "/project/%FF",
        "/project/no-such-project/releases",
        "/project/bash/releases?p=99",
        "/projects?p=9999",
        "/download/bash/no-such-file",
        "/download/no-such-project/no-such-file",
        "/index.php?page=project&name=no-such-project",
    ):
        assert_declined(path)
        assert site.ask(path).status == 404, path


@pytest.mark.parametrize(
    "query",
    ["p=1&p=2", "p[]=2", "p%5B%5D=2", "p", "p=", "p=0", "p=02", "p=+2", "p=-1", "q=1", "&", "p=2&"],
)
def test_a_query_that_php_may_read_differently_is_left_to_legacy(site: Site, query: str) -> None:
    assert_declined(f"/projects?{query}")


def test_pages_of_the_legacy_side_are_left_to_it(site: Site) -> None:
    assert_declined("/index.php?page=search&q=bash")
    assert_declined("/index.php")


def test_a_visitor_with_a_session_is_left_to_legacy(site: Site) -> None:
    cookie = {"Cookie": "theme=dark; PHPSESSID=abc"}
    for path in ("/", "/project/bash", "/project/bash/releases", "/index.php?page=projects"):
        assert_declined(path, cookie)


def test_a_visitor_with_a_session_gets_downloads_from_both_sides(site: Site) -> None:
    path = f"/download/bash/{quote(site.releases('bash')[0]['filename'])}"
    with site.login() as visitor:
        cookie = {"Cookie": f"PHPSESSID={visitor.cookies['PHPSESSID']}"}
    assert ask_python(path, headers=cookie) == site.ask(path, headers=cookie)
