"""Whoever runs the board of phpbb.php and phpbb.sql: its visitors and its moderator, by HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import requests

from stack.mariadb import MariaDB
from stack.php import PhpServer
from tests.programs.pictures import png

HERE = Path(__file__).parent
TEXT = "Grüße 🦊 – “quoted”, 日本語: \\ ' \" % _ café €"

TOUCHED = {
    "board_attachments", "board_auth_access", "board_banlist", "board_config", "board_events",
    "board_forums", "board_log", "board_posts", "board_posts_text", "board_search_matches",
    "board_search_words", "board_session_keys", "board_topics", "board_topics_track",
    "board_topics_watch", "board_users", "board_votes",
}  # fmt: skip
"""The tables in which `go_on` leaves rows that are not as they were; of sessions none is left."""

SEEN = ("board_posts_text", "post_text", TEXT)
"""Table, column and value of what `go_on` has written, as people read it."""


class Board(PhpServer):
    """The board behind `php -S`, with its tables in a database of a MariaDB that runs."""

    name: ClassVar[str] = "board"

    def __init__(self, directory: Path, mariadb: MariaDB, database: str = "board") -> None:
        super().__init__(
            directory,
            HERE,
            router=HERE / "phpbb.php",
            env={"BOARD_DATABASE": database, "BOARD_PORT": str(mariadb.port)},
            settings={"display_errors": "1"},
        )
        self.mariadb, self.database = mariadb, database

    def install(self) -> None:
        """Make its database and its tables, with what stands in them at first."""
        self.mariadb.create_database(self.database)
        self.do("install")

    def do(self, mode: str, file: bytes | None = None, **fields: object) -> list[str]:
        """Send a form; the words that it answers. Raises AssertionError with what went wrong."""
        files = None if file is None else {"file": ("fox ü.png", file, "image/png")}
        answer = requests.post(
            f"{self.url}/", params={"mode": mode}, data=fields, files=files, timeout=30
        )
        assert answer.status_code == 200, answer.text
        first, *words = answer.text.split()
        assert first == "OK", answer.text
        return words

    def post(self, **fields: object) -> tuple[int, int]:
        """Write a post; the numbers of its topic and its own."""
        topic, post = self.do("submit_post", **{"subject": TEXT[:30], "text": TEXT, **fields})
        return int(topic), int(post)


class People:
    """All who use a board: at first, and then."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def begin(self) -> None:
        """Users join, and one of them writes."""
        self.users = _join(self.board)
        for _ in range(3):
            self.board.post(user=self.users[0])

    def go_on(self) -> None:
        """Do whatever its forms can do, and what its moderator does besides."""
        board, users = self.board, self.users
        for user in (*users, users[0]):
            board.do("login", user=user)
        topics = _discuss(board, users)
        _moderate(board, users, topics)
        _fill_calendar(board)
        for name, value in {"sitename": TEXT, "sitename ü": "", "a/b": "100%"}.items():
            board.do("configure", name=name, value=value)
        board.do("rename_setting", **{"from": "path/with/slashes", "to": "path/%2F"})
        board.do("rename_setting", **{"from": "", "to": "it has a name"})
        for group, forum, option in ((1, 1, "a/b"), (1, 1, "a%2Fb"), (-1, 0, ""), (1, 2, "größe")):
            board.do("grant", group=group, forum=forum, option=option)
        board.do("swap_names", one=users[0], other=users[1])
        board.do("renumber")
        board.do("prune", forum=103)
        board.do("logout_all")


def _join(board: Board) -> list[int]:
    """Users with the borders of every column; the last one never writes."""
    people = (
        {"name": "Jürgen €", "money": "1234567890123456.7891", "gender": "m", "options": 1023},
        {"name": "naïve", "money": "-0.0001", "gender": "größer", "flags": "mail,html,hidden"},
        {"name": "O'Brien\\", "birthday": "2005-03-00", "timezone": "-11.5", "notify": 1},
        {"name": "gone", "birthday": "9999-12-31", "karma": "3.4e38", "timezone": "999.99"},
        {"name": "quiet", "birthday": "1970-01-01", "karma": "-0.1", "options": 512},
    )
    ips = ("10.0.0.1", "65.66.67.68", "2001:db8::1", "0.0.0.0", "255.255.255.255")
    return [
        int(board.do("register", password="x", ip=ip, signature=TEXT, **one)[0])
        for one, ip in zip(people, ips, strict=True)
    ]


def _discuss(board: Board, users: list[int]) -> list[int]:
    """Topics with answers, some of them changed and deleted; the numbers of the topics."""
    topics = []
    for number, kind in enumerate(("normal", "sticky", "announce", "normal")):
        topic, first = board.post(user=users[number], forum=1 + number % 3, type=kind)
        topics.append(topic)
        for user in (*users[:3], -1):
            board.post(user=user, topic=topic, forum=1 + number % 3, guest="Gäst 🦊"[:8])
        board.do("edit_post", post=first, subject="größer", text=f"{TEXT} edited {number} times")
        board.do("edit_post", post=first, subject="", text="größe a/b " * 3000)
        _, last = board.post(user=users[0], topic=topic, forum=1, text="only here: unverwechselbar")
        board.do("delete_post", post=last)
        board.do("attach", png(20, 20), post=first, size=2**64 - 1 - number, rating="4.50")
    # Its column is too short for the title, and cuts a sign in two.
    board.post(user=users[1], subject="ä" + "日本語" * 20)
    for option in (1, 2, 1, 1, 255):
        board.do("vote", topic=topics[0], option=option, text=f"Größe {option}")
    return topics


def _moderate(board: Board, users: list[int], topics: list[int]) -> None:
    board.do("move_topic", topic=topics[0], forum=2)
    board.do("merge_topics", **{"from": topics[1], "to": topics[0]})
    ips = "10.0.0.1 65.66.67.68 2001:db8::1 10.0.0.1 0.0.0.0"
    board.do("ban", ips=ips, email="größe@example.org", user=users[2])
    board.do("unban", ips="0.0.0.0")


def _fill_calendar(board: Board) -> None:
    events = (
        ("2005-03-27", "02:30:00", "26:30:00", "2005", "0.1"),
        ("0000-00-00", "-838:59:59", "838:59:59", "0000", "-12"),
        ("2005-03-00", "08:05:00", "-00:00:01", "2155", "12345678.91"),
        ("9999-12-31", "24:00:00", "8:5", "1901", "1e15"),
    )
    for number, (date, time, length, year, fee) in enumerate(events):
        board.do(
            "put_event", date=date, no=number, time=time, length=length, year=year, fee=fee,
            title=TEXT,
        )  # fmt: skip
