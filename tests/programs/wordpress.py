"""Whoever runs a WordPress: an administrator with a browser, a writer with a program of 2005, and
a visitor who comments. All that they do goes through HTTP."""

from __future__ import annotations

import re
import xmlrpc.client
from typing import Any

import requests

from stack.wordpress import WordPress
from tests.programs.forms import fill_in
from tests.programs.pictures import png

EMOJI = "Grüße 🦊 – “quoted”, naïve, 日本語, \U0002070e, a\u0301"
TWICE = "Ã¼ber cafÃ© â‚¬ looks as if it were encoded twice"
QUOTES = "\\ ' \" % _ -- ; %s \\0"

TOUCHED = {
    "wp_commentmeta", "wp_comments", "wp_links", "wp_options", "wp_postmeta", "wp_posts",
    "wp_term_relationships", "wp_term_taxonomy", "wp_terms", "wp_usermeta", "wp_users",
}  # fmt: skip
"""The tables in which `go_on` changes rows: all but one that only plugins fill."""

SEEN = ("wp_posts", "post_title", EMOJI)
"""Table, column and value of what `go_on` has written, as people read it."""


class People:
    """All who use a WordPress: at first, and then."""

    def __init__(self, site: WordPress) -> None:
        self.site = site

    def begin(self) -> None:
        """Set it up, and write with the older interface."""
        self.administrator = Administrator(self.site)
        self.administrator.set_options()
        write_by_xmlrpc(self.site)

    def meanwhile(self) -> None:
        """Edit for a while."""
        for _ in range(3):
            write_by_xmlrpc(self.site)

    def go_on(self) -> None:
        """Do whatever its forms, its editor and its older interface can do."""
        post = self.administrator.write_posts()
        comment_as_visitor(self.site, post)
        self.administrator.moderate(post)
        self.administrator.upload()
        self.administrator.add_link()
        self.administrator.change_users()
        write_by_xmlrpc(self.site)
        self.administrator.do_timed_work()


class Administrator:
    """The first user of a WordPress, logged in."""

    def __init__(self, site: WordPress) -> None:
        self.site, self.session = site, requests.Session()
        fill_in(
            self.session,
            f"{site.url}/wp-login.php",
            "loginform",
            {"log": site.user, "pwd": site.password},
        )
        nonce = self.session.get(self.page("admin-ajax.php?action=rest-nonce"))
        nonce.raise_for_status()
        assert re.fullmatch("[0-9a-f]{10}", nonce.text), "it is not logged in"
        self.session.headers["X-WP-Nonce"] = nonce.text

    def page(self, name: str) -> str:
        """The URL of a page for administrators."""
        return f"{self.site.url}/wp-admin/{name}"

    def form(self, page: str, form: str, **changes: str) -> requests.Response:
        """Fill in a form of a page for administrators."""
        return fill_in(self.session, self.page(page), form, changes)

    def rest(self, method: str, path: str, **data: Any) -> Any:
        """What the editor in the browser does: a call of the REST interface."""
        route = f"{self.site.url}/index.php?rest_route=/wp/v2/{path}"
        answer = self.session.request(method, route, json=data)
        assert answer.ok, answer.text
        return answer.json()

    def write_posts(self) -> int:
        """Write, change, trash, bring back and delete posts, categories and tags; the id of a
        post that is there now."""
        tag = self.rest("POST", "tags", name=EMOJI, slug="grüße")["id"]
        topic = self.rest("POST", "categories", name="Förge & Söhne", description=TWICE)["id"]
        child = self.rest("POST", "categories", name="Child", parent=topic)["id"]
        post = self.rest(
            "POST", "posts", title=EMOJI, content=f"<p>{EMOJI}</p>", excerpt=TWICE,
            status="publish", categories=[topic, child], tags=[tag],
        )["id"]  # fmt: skip
        for number in range(5):
            self.rest("POST", f"posts/{post}", content=f"<p>{number}: {TWICE}</p>")
        # A draft has MySQL's zero date for its time in GMT.
        draft = self.rest("POST", "posts", title="A draft", content=QUOTES)["id"]
        old = self.rest(
            "POST", "posts", title="old", status="publish", date="1969-12-31T23:59:59",
            password="pa'ss\\word", content=QUOTES,
        )["id"]  # fmt: skip
        late = self.rest("POST", "posts", title="late", status="future", date="2039-01-19T03:14:08")
        for one in (old, draft):
            self.rest("DELETE", f"posts/{one}")
        self.rest("POST", f"posts/{old}", status="publish", sticky=False)
        self.rest("DELETE", f"posts/{late['id']}&force=true")
        self.rest("DELETE", f"categories/{child}&force=true")
        self.rest("POST", f"categories/{topic}", name="Renamed 🦊", slug="renamed")
        self.form("edit-tags.php?taxonomy=category", "addtag", **{"tag-name": "By form 🦊"})
        return int(post)

    def comment(self, post: int, text: str) -> None:
        """Comment a post with the form below it."""
        fill_in(self.session, f"{self.site.url}/?p={post}", "commentform", {"comment": text})

    def moderate(self, post: int) -> None:
        """Comment, and let comments of visitors pass, be spam, be trash, be gone."""
        for text in (EMOJI, TWICE, QUOTES, "to go"):
            self.comment(post, text)
        waiting = self.rest("GET", "comments&status=hold&orderby=id")
        assert waiting, "the visitor's comment waits for nobody"
        self.rest("POST", f"comments/{waiting[0]['id']}", status="approved")
        mine = self.rest("GET", f"comments&post={post}&search=to go&context=edit")[0]["id"]
        for status in ("spam", "approved", "trash"):
            self.rest("POST", f"comments/{mine}", status=status)
        first = self.rest("GET", "comments&orderby=id&order=asc")[0]["id"]
        self.rest("DELETE", f"comments/{first}&force=true")

    def upload(self) -> int:
        """Upload a picture, of which the site makes smaller ones, describe it; its id."""
        answer = self.session.post(
            f"{self.site.url}/index.php?rest_route=/wp/v2/media",
            data=png(1200, 900),
            headers={
                "Content-Type": "image/png",
                "Content-Disposition": 'attachment; filename="fox.png"',
            },
        )
        assert answer.ok, answer.text
        made = answer.json()
        assert len(made["media_details"]["sizes"]) > 1, "it made no smaller pictures"
        self.rest("POST", f"media/{made['id']}", alt_text=EMOJI, caption=TWICE)
        return int(made["id"])

    def set_options(self) -> None:
        """Change settings: a title, the time zone, the form of addresses, and all on one page."""
        self.form(
            "options-general.php", "options.php",
            blogname=EMOJI[:40], timezone_string="Europe/Berlin", users_can_register="1",
        )  # fmt: skip
        self.form(
            "options-permalink.php", "options-permalink.php",
            selection="custom", permalink_structure="/%year%/%postname%/",
        )  # fmt: skip
        self.form("options.php", "all-options", link_manager_enabled="1", blogdescription=TWICE)

    def add_link(self) -> None:
        """Put a link beside the pages, as blogs of 2005 had them."""
        self.form("link-add.php", "addlink", link_url="http://example.org/", link_name=EMOJI)

    def change_users(self) -> None:
        """Make users, change one, delete one whose posts another one gets."""
        for name in ("wríter", "leaver"):
            plain = "writer" if name == "wríter" else name
            self.form(
                "user-new.php", "createuser",
                user_login=plain, email=f"{plain}@example.org", first_name=name,
                last_name="🦊", pass1="long and secret", pass2="long and secret",
                pw_weak="on", role="author",
            )  # fmt: skip
        users = {one["slug"]: one["id"] for one in self.rest("GET", "users&context=edit")}
        self.rest("POST", f"users/{users['writer']}", description=EMOJI, nickname=TWICE)
        self.rest("POST", "posts", title="left", status="publish", author=users["leaver"])
        me = users[self.site.user]
        self.rest("DELETE", f"users/{users['leaver']}&force=true&reassign={me}")

    def do_timed_work(self) -> None:
        """What cron does every hour."""
        self.session.get(f"{self.site.url}/wp-cron.php?doing_wp_cron").raise_for_status()


def comment_as_visitor(site: WordPress, post: int) -> None:
    """Comment a post without being known; the comment waits for the administrator."""
    fill_in(
        requests.Session(), f"{site.url}/?p={post}", "commentform",
        {
            "comment": EMOJI, "author": "Vîsitor 🦊", "email": "v@example.org",
            "url": "http://example.org/?a=1&b=ü",
        },
    )  # fmt: skip


def write_by_xmlrpc(site: WordPress) -> None:
    """Write, change and delete posts with the interface that programs of 2005 use."""
    with xmlrpc.client.ServerProxy(f"{site.url}/xmlrpc.php", allow_none=True) as server:
        me = (site.user, site.password)
        kept = server.metaWeblog.newPost(
            1, *me, {"title": EMOJI, "description": TWICE, "mt_keywords": ["old", "ways"]}, True
        )
        server.metaWeblog.editPost(
            kept, *me,
            {"title": "x", "description": EMOJI,
             "custom_fields": [{"key": "naïve", "value": TWICE}]},
            True,
        )  # fmt: skip
        gone = server.metaWeblog.newPost(1, *me, {"title": "y", "description": "z"}, False)
        assert server.blogger.deletePost("", gone, *me, True)
