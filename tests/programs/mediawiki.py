"""Whoever runs a MediaWiki: an administrator by its API, as bots and gadgets use it, and by the
form; and a reader without a name. All that they do goes through HTTP."""

from __future__ import annotations

from typing import Any

import requests

from stack.mediawiki import MediaWiki
from tests.programs.forms import fill_in
from tests.programs.pictures import png

FOX = 'Füchse/🦊 & "mehr": 100%'
PICTURE = "Füchse 🦊.png"
TEXT = f"""\
'''Grüße''' 🦊 – “quoted”, 日本語, 𠜎, Ã¼ber, \\ ' % _. [[Füchse]] [[Main Page|start]]
[https://example.org/?q=ü a link] {{{{Note|1=é}}}} [[File:{PICTURE}|thumb|a fox]]
[[Category:Tiere & Größe|🦊]] __NOTOC__ [[wikipedia:Fox]] [[Missing page]] ~~~~
"""

TOUCHED = {
    "actor", "archive", "category", "categorylinks", "change_tag", "change_tag_def", "comment",
    "content", "externallinks", "filearchive", "image", "imagelinks", "ip_changes", "ipblocks",
    "iwlinks", "log_search", "logging", "objectcache", "oldimage", "page",
    "page_props", "page_restrictions", "pagelinks", "protected_titles", "querycache",
    "querycache_info", "querycachetwo", "recentchanges", "redirect", "revision",
    "revision_comment_temp", "searchindex", "site_stats", "slots", "templatelinks", "text", "user",
    "user_former_groups", "user_groups", "user_properties", "watchlist", "watchlist_expiry",
}  # fmt: skip
"""The tables in which `go_on` changes rows, of 58."""

SEEN = ("page", "page_title", "Größe")
"""Table, column and value of what `go_on` has written, as people read it."""


class People:
    """All who use a MediaWiki: at first, and then."""

    def __init__(self, site: MediaWiki) -> None:
        self.site = site

    def begin(self) -> None:
        """Write its first pages."""
        self.administrator = Administrator(self.site)
        self.administrator.write_pages()

    def meanwhile(self) -> None:
        """Edit for a while."""
        for number in range(5):
            self.administrator.edit(f"Meanwhile {number}", TEXT)
        self.administrator.change("move", **{"from": "Meanwhile 0", "to": "Meanwhile 🦊"})
        self.administrator.change("delete", title="Meanwhile 1")

    def go_on(self) -> None:
        """Do whatever its API and its forms can do, and what it has put off."""
        self.administrator.move_and_delete()
        self.administrator.upload()
        self.administrator.change_users()
        Person(self.site).edit_by_form("Main_Page", TEXT[::-1])
        self.administrator.undo_of("Main Page")
        self.site.maintenance("runJobs")
        self.site.maintenance("updateSpecialPages")


class Person:
    """A visitor of a MediaWiki who has no name yet."""

    def __init__(self, site: MediaWiki) -> None:
        self.site, self.session = site, requests.Session()

    def ask(self, **words: Any) -> Any:
        """A question to the API."""
        return self._answer(self.session.get(self._api, params=words | _FORM))

    def change(
        self, action: str, files: dict[str, tuple[str, bytes, str]] | None = None, **words: Any
    ) -> Any:
        """A change by the API, with the token that it wants.

        Raises AssertionError with what it says against that.
        """
        kind, field = _TOKENS.get(action, ("csrf", "token"))
        tokens = self.ask(action="query", meta="tokens", type=kind)["query"]["tokens"]
        data = {"action": action, field: tokens[f"{kind}token"], **words} | _FORM
        return self._answer(self.session.post(self._api, data=data, files=files))

    def edit(self, title: str, text: str, **words: Any) -> Any:
        """Write a page by the API."""
        return self.change("edit", title=title, text=text, **words)

    def edit_by_form(self, title: str, text: str) -> None:
        """Write a page by the form."""
        fill_in(
            self.session, f"{self.site.url}/index.php?title={title}&action=edit", "editform",
            {"wpTextbox1": text, "wpSummary": "by form – 🦊", "wpSave": "Save"},
        )  # fmt: skip
        [page] = self.ask(action="query", titles=title, prop="revisions", rvprop="comment")[
            "query"
        ]["pages"]
        assert page["revisions"][0]["comment"] == "by form – 🦊"

    @property
    def _api(self) -> str:
        return f"{self.site.url}/api.php"

    def _answer(self, answer: requests.Response) -> Any:
        answer.raise_for_status()
        told = answer.json()
        assert "errors" not in told, told
        return told


class Administrator(Person):
    """The first user of a MediaWiki, logged in."""

    def __init__(self, site: MediaWiki) -> None:
        super().__init__(site)
        said = self.change(
            "clientlogin", username=site.user, password=site.password, loginreturnurl=site.url
        )
        assert said["clientlogin"]["status"] == "PASS", said

    def write_pages(self) -> None:
        """Write pages that link to each other."""
        self.change("managetags", operation="create", tag="füchsisch")
        self.edit("Template:Note", "<b>{{{1}}}</b>", summary=TEXT[:90])
        self.edit("Füchse", "#REDIRECT [[Main Page#Größe]]")
        for number in range(5):
            self.edit(FOX, f"{TEXT}\n{number}", summary=f"🦊 {number}")
        self.change("edit", title=FOX, appendtext="\n" + "grüße 🦊 " * 5000, minor=1)
        self.edit(f"User talk:{self.site.user}", TEXT, bot=1)
        self.edit_by_form("By_form", TEXT)

    def move_and_delete(self) -> None:
        """Move pages, delete and bring back, protect, watch, set the language of one, hide."""
        self.change("move", **{"from": FOX, "to": "Größe", "reason": FOX})
        self.edit("Gone", TEXT)
        self.change("delete", title="Gone", reason="🦊")
        self.edit("Gone", "again")
        self.change("delete", title="Gone")
        self.change("undelete", title="Gone", reason="back")
        self.change("delete", title="By form")
        self.change("protect", title="Größe", protections="edit=sysop", expiry="infinite")
        self.change("protect", title="Nowhere 🦊", protections="create=sysop", expiry="never")
        self.change("watch", titles="Größe|Gone", expiry="1 month")
        self.change("watch", titles="Gone", unwatch=1)
        made = self.edit("Hidden", "a secret")["edit"]["newrevid"]
        self.edit("Hidden", "nothing")
        self.change("revisiondelete", type="revision", ids=made, hide="content|comment")
        self.change("purge", titles="Größe|Hidden", forcelinkupdate=1)

    def upload(self) -> None:
        """Upload a file and another version, turn back to the first, delete a third file."""
        for number, name in enumerate((PICTURE, PICTURE, "Third.png")):
            content = ("fox.png", png(300 + number, 200), "image/png")
            self.change(
                "upload", {"file": content}, filename=name, comment="🦊", ignorewarnings=1
            )  # fmt: skip
        [page] = self.ask(
            action="query", titles=f"File:{PICTURE}", prop="imageinfo", iilimit=9,
            iiprop="archivename",
        )["query"]["pages"]  # fmt: skip
        old = page["imageinfo"][1]["archivename"]
        self.change("filerevert", filename=PICTURE, archivename=old)
        self.change("move", **{"from": "File:Third.png", "to": "File:Dritte 🦊.png"})
        self.change("delete", title="File:Dritte 🦊.png")

    def change_users(self) -> None:
        """Make an account, give and take rights, block and unblock, set preferences."""
        password = {"password": "long and secret", "retype": "long and secret"}
        made = self.change(
            "createaccount", username="Größe 🦊", createreturnurl=self.site.url,
            reason=TEXT[:50], **password,
        )  # fmt: skip
        assert made["createaccount"]["status"] == "PASS", made
        self.change("userrights", user="Größe 🦊", add="bot|sysop", expiry="1 month|infinite")
        self.change("userrights", user="Größe 🦊", remove="sysop", reason="🦊")
        self.change("block", user="192.0.2.0/24", expiry="infinite", reason="🦊")
        self.change("block", user="Größe 🦊", expiry="1 day", pagerestrictions="Main Page")
        self.change("unblock", user="192.0.2.0/24")
        self.change("options", optionname="nickname", optionvalue="[[User:Admin|🦊]]")
        self.edit("Main Page", TEXT, tags="füchsisch")

    def undo_of(self, title: str) -> None:
        """Roll back what a reader without a name has done to a page, and mark it as looked at."""
        [last] = self.ask(
            action="query", list="recentchanges", rctitle=title, rclimit=1, rcprop="ids|user"
        )["query"]["recentchanges"]
        self.change("patrol", rcid=last["rcid"])
        self.change("rollback", title=title, user=last["user"])


_FORM = {"format": "json", "formatversion": "2", "errorformat": "plaintext"}
_TOKENS = {
    "clientlogin": ("login", "logintoken"),
    "createaccount": ("createaccount", "createtoken"),
    "patrol": ("patrol", "token"),
    "rollback": ("rollback", "token"),
    "userrights": ("userrights", "token"),
    "watch": ("watch", "token"),
}
