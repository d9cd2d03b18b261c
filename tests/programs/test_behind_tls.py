"""Behind nginx that ends TLS, and with all shares at 0 %, a program with the bridge in front of it
is the program: log-in, edit, upload and the redirect to https are as without the bridge."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import requests
from urllib3 import HTTPHeaderDict

from stack.dokuwiki import DokuWiki
from stack.mariadb import MariaDB
from stack.mediawiki import MediaWiki
from stack.nginx import NginxPhp
from stack.wordpress import WordPress
from tests.certificate import make_certificate
from tests.programs import mediawiki, wordpress
from tests.programs.behind_tls import Way, differences, http_links, recorded, ways
from tests.programs.forms import fill_in
from tests.programs.pictures import png

pytestmark = [pytest.mark.programs, pytest.mark.timeout(600)]

Answers = list[requests.Response]
TIME = (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", "TIME")
MASKS = [
    (r"(?<![0-9])[0-9]{5}(?![0-9])", "PORT"),
    (r"(?<![0-9])1[0-9]{9}(?![0-9])", "SECONDS"),
]
HTTPS = (
    "if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') { $_SERVER['HTTPS'] = 'on'; }\n"
)
"""The line that docs/deploy.md has for wp-config.php, and for any PHP."""


class Program(NamedTuple):
    """A program that is served in both ways.

    renew: makes it as it was when it was new. use: what people do with it. masks: what differs from
    one visit to the next. plain: a page that is asked for without https; `forces`: it
    sends whoever does so there.
    """

    php: NginxPhp
    renew: Callable[[], None]
    use: Callable[[Way], None]
    masks: list[tuple[str, str]]
    plain: str
    forces: bool = True


def _wordpress(folder: Path, mariadb: MariaDB) -> Program:
    server = WordPress(folder, mariadb, database="wordpress_tls")
    server.prepare()
    config = server.docroot / "wp-config.php"
    more = (
        f"{HTTPS}define('FORCE_SSL_ADMIN', true);\n"
        "foreach (['WP_HOME', 'WP_SITEURL'] as $one) {\n"
        "    define($one, 'https://' . $_SERVER['HTTP_HOST']);\n}\n"
    )
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("$table_prefix", f"{more}$table_prefix"), encoding="utf-8")
    settings = {key: value for key, value in server.settings.items() if "enable_cli" not in key}

    def renew() -> None:
        shutil.rmtree(server.docroot / "wp-content" / "uploads", ignore_errors=True)
        with server:
            server.install()

    def use(way: Way) -> None:
        people: Any = SimpleNamespace(url=way.url, user=server.user, password=server.password)
        requests.get(way.url).raise_for_status()
        administrator = wordpress.Administrator(people)
        administrator.set_options()
        post = administrator.write_posts()
        wordpress.comment_as_visitor(people, post)
        administrator.moderate(post)
        administrator.upload()
        administrator.add_link()
        for page in ("edit.php", "upload.php", f"post.php?post={post}&action=edit"):
            administrator.session.get(administrator.page(page)).raise_for_status()
        requests.get(f"{way.url}/?p={post}").raise_for_status()
        picture = administrator.rest("GET", "media")[0]["source_url"]
        assert picture.startswith(f"{way.url}/")
        requests.get(picture).raise_for_status()

    # Names of cookies have the address of the site in them.
    masks = [
        (r"moderation-hash=[0-9a-f]{32}", "moderation-hash="),
        (r'(?<=^")[0-9a-f]{8}-', "TIME-"),  # what nginx makes the ETag of a file of
        (r'(<div class="(?:jj|mm|aa|hh|mn|ss)">)[0-9]+', r"\1"),
        (r'(name="(?:cur_)?(?:jj|mm|aa|hh|mn|ss)" value=")[0-9]+', r"\1"),
        (r"\d{1,2}:\d\d [ap]m", "TIME"),
        (r"_[0-9a-f]{32}(?![0-9a-z])", "_ADDRESS"),
        (r"(?<![0-9a-z])[0-9a-f]{10}(?![0-9a-z])", "NONCE"),
    ]
    php = NginxPhp(folder / "served", server.docroot, settings=settings)
    return Program(php, renew, use, masks, "/wp-login.php")


def _mediawiki(folder: Path, mariadb: MariaDB) -> Program:
    server = MediaWiki(folder, mariadb, database="mediawiki_tls")
    server.directory.mkdir(parents=True)
    server.prepare()
    images = server.directory / "images"

    def renew() -> None:
        shutil.rmtree(server.directory / "new", ignore_errors=True)
        shutil.rmtree(images)
        images.mkdir()
        server.install()
        with server.local_settings.open("a", encoding="utf-8") as file:
            file.write("$wgServer = 'https://' . ($_SERVER['HTTP_HOST'] ?? 'localhost');\n")
            file.write("$wgForceHTTPS = true;\n")

    def use(way: Way) -> None:
        people: Any = SimpleNamespace(url=way.url, user=server.user, password=server.password)
        requests.get(way.url).raise_for_status()
        administrator = mediawiki.Administrator(people)
        administrator.write_pages()
        # Once: two versions of a file within a second are refused, by the clock.
        file = {"file": ("fox.png", png(300, 200), "image/png")}
        administrator.change("upload", file, filename=mediawiki.PICTURE, ignorewarnings=1)
        mediawiki.Person(people).edit_by_form("Main_Page", mediawiki.TEXT[::-1])
        for title in ("Main_Page", mediawiki.FOX, f"File:{mediawiki.PICTURE}", "Special:UserLogin"):
            page = administrator.session.get(f"{way.url}/index.php", params={"title": title})
            page.raise_for_status()
        [page] = administrator.ask(
            action="query", titles=f"File:{mediawiki.PICTURE}", prop="imageinfo", iiprop="url"
        )["query"]["pages"]
        picture = page["imageinfo"][0]["url"]
        assert picture.startswith(f"{way.url}/")
        requests.get(picture).raise_for_status()

    masks = [
        (r"(?<![0-9a-z])[0-9a-f]{24}(?![0-9a-z])", "REQUEST"),
        (r"(?s)<!--\s*NewPP limit report.*?-->", ""),
        (r"(?s)<!--\s*Transclusion expansion time.*?-->", ""),
        (r'"wg(RequestId|BackendResponseTime|PageParseReport)":[^\n]*', "OF ONE REQUEST"),
        (r'(?<=^")[0-9a-f]{8}-', "TIME-"),
        (r"[0-9a-f]{40}(\+\\\\+)?|[0-9a-f]{32}\+\\+", "TOKEN"),
        (r"(?<![0-9])20[0-9]{12}(?![0-9])", "TIME"),
        (r"\d\d:\d\d, \d+ \w+ 20\d\d|\d\d:\d\d", "TIME"),
        (r"(?<=req)[-_A-Za-z0-9]{20,}", "REQUEST"),
    ]
    settings = {key: value for key, value in server.settings.items() if "enable_cli" not in key}
    php = NginxPhp(
        folder / "served", server.docroot, env=server.env, settings=settings,
        extra=f'location /images/ {{ alias "{images}/"; }}',
    )  # fmt: skip
    return Program(php, renew, use, masks, "/index.php?title=Main_Page")


def _dokuwiki(folder: Path, mariadb: MariaDB) -> Program:
    home = folder / "wiki"
    server = DokuWiki(home)
    first = folder / "first.php"
    folder.mkdir(parents=True)
    first.write_text(f"<?php\n{HTTPS}", encoding="utf-8")

    def renew() -> None:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        server.prepare()

    def use(way: Way) -> None:
        session = requests.Session()
        start, page = f"{way.url}/doku.php/start", f"{way.url}/doku.php/playground:edited"
        session.get(start).raise_for_status()
        login = {"u": server.user, "p": server.password}
        answer = fill_in(session, f"{start}?do=login", "dw__login", login)
        assert "Logged in as" in answer.text
        text = "====== Edited ======\n\nGrüße & 100% <b> +plus+ \\\\ line\n"
        edit = {"wikitext": text, "summary": "by form", "do[save]": "1"}
        answer = fill_in(session, f"{page}?do=edit", "dw__editform", edit)
        assert "Grüße &amp; 100%" in answer.text
        media = f"{way.url}/lib/exe/mediamanager.php?ns=wiki"
        file = {"upload": ("fox.png", png(300, 200), "image/png")}
        answer = fill_in(session, media, "dw__upload", {"mediaid": "fox.png"}, files=file)
        assert "Upload successful" in answer.text
        picture = requests.get(f"{way.url}/lib/exe/fetch.php/wiki:fox.png")
        assert picture.content == png(300, 200)
        for name in ("start?do=admin", "wiki:syntax", "playground:edited?do=revisions"):
            session.get(f"{way.url}/doku.php/{name}").raise_for_status()

    renew()
    masks = [
        (r"[0-9a-f]{32}|(?<=tok=)[0-9a-f]{6}", "TOKEN"),
        (r"DW[0-9a-f]+", "DW"),
        (r"\d{4}\\?/\d\d\\?/\d\d \d\d:\d\d", "TIME"),
    ]
    settings = {key: value for key, value in server.settings.items() if "enable_cli" not in key}
    settings["auto_prepend_file"] = str(first)
    php = NginxPhp(folder / "served", server.docroot, env=server.env, settings=settings)
    return Program(php, renew, use, masks, "/doku.php/start", forces=False)


PROGRAMS = {"WordPress": _wordpress, "MediaWiki": _mediawiki, "DokuWiki": _dokuwiki}


class Visits(NamedTuple):
    """The two ways, and every answer of what people did on each."""

    program: Program
    direct: Way
    through: Way
    directly: Answers
    by_bridge: Answers


@pytest.fixture(scope="module", params=PROGRAMS)
def visits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB
) -> Iterator[Visits]:
    """The same is done on both ways, each time with a new program."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = make_certificate(folder)
    program = PROGRAMS[request.param](folder / "program", mariadb)
    with pytest.MonkeyPatch.context() as patched, ways(folder, program.php, certificate) as both:
        patched.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        found = []
        for way in both:
            program.renew()
            with recorded(patched) as answers:
                program.use(way)
            found.append(answers)
        yield Visits(program, *both, *found)


def test_everything_is_as_it_is_directly(visits: Visits) -> None:
    """Status, headers in their order, how cookies are set, and bodies."""
    masks = [TIME, *visits.program.masks, *MASKS]
    found = differences(visits.directly, visits.by_bridge, masks)
    assert not found, "\n".join(found)
    assert len(visits.by_bridge) > 10


def test_every_link_and_redirect_is_https(visits: Visits) -> None:
    assert http_links(visits.by_bridge, visits.through) == []
    assert any(visits.through.url in answer.text for answer in visits.by_bridge)


def test_cookies_are_for_https_alone(visits: Visits) -> None:
    """The program was told that its visitor came by https."""
    cookies = [answer.raw.headers.getlist("Set-Cookie") for answer in visits.by_bridge]
    set_ones = [one.lower() for many in cookies for one in many]
    assert any("; secure" in one for one in set_ones)


def test_who_comes_without_https_is_treated_as_the_program_does(visits: Visits) -> None:
    answers = [
        requests.get(f"{way.plain}{visits.program.plain}", allow_redirects=False)
        for way in (visits.direct, visits.through)
    ]
    assert differences(answers[:1], answers[1:], [TIME, *visits.program.masks, *MASKS]) == []
    if not visits.program.forces:
        assert answers[1].status_code == 200
        return
    assert answers[1].status_code in (301, 302)
    assert answers[1].headers["Location"].startswith("https://127.0.0.1:")


def test_all_of_it_went_through_the_bridge_to_legacy(visits: Visits) -> None:
    site = visits.through.site
    assert site
    lines = site.log()
    assert len(lines) >= len(visits.by_bridge)
    assert {line["backend"] for line in lines} == {"php"}


def test_the_comparison_sees_what_a_proxy_could_do_wrong(visits: Visits) -> None:
    """Another status, header, cookie or body of a page is a difference."""
    masks = [TIME, *visits.program.masks, *MASKS]
    page = next(one for one in visits.by_bridge if b"</title>" in one.content)
    assert differences([page], [page], masks) == []
    for name, wrong in {
        "status_code": 404,
        "reason": "Fine",
        "raw": SimpleNamespace(headers=HTTPHeaderDict([*page.raw.headers.items(), ("Via", "x")])),
        "_content": page.content.replace(b"</title>", b"?</title>"),
    }.items():
        other = copy.copy(page)
        other.raw = page.raw
        setattr(other, name, wrong)
        assert differences([page], [other], masks), name
