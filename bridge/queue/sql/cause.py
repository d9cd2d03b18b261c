"""Why a database does not do what was asked, in a true sentence, and what a person is to do.

One function decides it for every driver and for everybody who asks: the relay, a snapshot, a
reconciling, `bridgectl status` and `bridgectl doctor`. Pure but for a look at a SQLite file.

What connects may say no number with its error (PostgreSQL), or one number for many causes (MySQL
2003), so texts are looked at, too; those of a server in another language are told as they are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerMissing
from bridge.queue.sql.database import log_text, reading
from bridge.settings import redact_url

__all__ = ["Cause", "Kind", "absent", "cause_of", "check", "check_there", "unusable"]

Kind = Literal[
    "refused", "unknown host", "silent", "let in", "no database", "no right", "no table",
    "no column", "wrong SQL", "TLS", "too many", "going down", "busy", "no file", "no SQLite",
    "other",
]  # fmt: skip
URL = "BRIDGE_SQL_URL"
START = f"start it, or mend host and port in {URL}"
SAME_IN_YAML = "write in sync.yaml one that this database has"


@dataclass(frozen=True, slots=True)
class Cause:
    """says: what is wrong; follows on "the SQL database". do: what to do about it. waits: whether
    it may pass by itself."""

    kind: Kind
    says: str
    do: str
    waits: bool = False

    def __str__(self) -> str:
        return f"{self.says}: {self.do}" if self.do else self.says


def cause_of(error: BaseException, url: sql.URL) -> Cause:
    """The cause of an error of SQLAlchemy or of a driver, on a connection to `url`."""
    found = getattr(error, "orig", None) or error
    text = str(found.args[-1]) if found.args else str(found)
    backend = url.get_backend_name()
    if isinstance(error, sql.exc.TimeoutError):
        return Cause("busy", "has no connection free for us", "look again later", waits=True)
    if backend == "sqlite":
        cause = _sqlite(text, url)
    elif backend == "postgresql":
        cause = _postgresql(str(getattr(found, "sqlstate", None) or ""), text, url)
    else:
        number = found.args[0] if found.args and isinstance(found.args[0], int) else 0
        cause = _mysql(number, text)
        if cause is None and number == 0 and type(found).__name__ == "InterfaceError":
            # What PyMySQL says of a connection that is closed already.
            cause = Cause("silent", "does not answer (the connection is lost)", START, waits=True)
    return cause or _other(error)


def _other(error: BaseException) -> Cause:
    found = getattr(error, "orig", None) or error
    # Every driver has these names (PEP 249).
    away = type(found).__name__ in ("OperationalError", "InterfaceError") or getattr(
        error, "connection_invalidated", False
    )
    do = f"its log may say more; it is the one that {URL} names"
    return Cause("other", f"failed ({log_text(error)})", do, waits=away)


# MySQL and MariaDB.

_DENIED = re.compile(r"(\w[\w ]*) command denied to user '(.*?)'@'(.*?)' for (\w+) (.*)")
_BY_NUMBER: dict[int, Cause] = {
    1040: Cause("too many", "has too many connections", "raise max_connections", waits=True),
    1053: Cause("going down", "is shutting down", "start it again", waits=True),
    1054: Cause("no column", "has no such column", SAME_IN_YAML),
    1064: Cause("wrong SQL", "does not understand the SQL", "mend `query:` or `where:`"),
    1146: Cause("no table", "has no such table", SAME_IN_YAML),
    1203: Cause("too many", "has too many connections of this user", "raise the limit", waits=True),
    1205: Cause("busy", "made us wait for a lock too long", "look for what holds it", waits=True),
    1213: Cause("busy", "ended our transaction for another one", "", waits=True),
    1226: Cause(
        "too many", "grants this user no more of a resource", "raise the limit", waits=True
    ),
    1356: Cause("no table", "has a view that has lost a table or a right", "mend the view"),
    3159: Cause("TLS", "takes connections with TLS only", f"add ?ssl_ca=/path/ca.pem to {URL}"),
}
_LOST = frozenset({2006, 2013, 2014, 2055, 4031})


def _mysql(number: int, text: str) -> Cause | None:
    if number in (2002, 2003):
        return _unreached(text)
    if number in _LOST:
        return Cause("silent", f"does not answer ({text})", START, waits=True)
    if number in (1045, 1698, 1251, 1130):
        do = (
            f"mend user and password in {URL}; where the server takes this user with TLS only, "
            "add ?ssl_ca=/path/ca.pem"
        )
        return Cause("let in", f"does not let us in ({text})", do)
    if number == 1044:
        match = re.search(r"user '(.*?)'@'(.*?)' to database '(.*?)'", text)
        grant = "GRANT SELECT ON {2}.* TO '{0}'@'{1}'".format(*match.groups()) if match else ""
        do = f"{grant}; or mend the name of the database in {URL}"
        return Cause("no right", f"has no such database, or not for us ({text})", do)
    if number == 1049:
        return Cause("no database", f"is not there ({text})", f"mend its name in {URL}")
    if number in (1142, 1143):
        return Cause("no right", f"does not allow it ({text})", _mysql_grant(text))
    if number in _BY_NUMBER:
        cause = _BY_NUMBER[number]
        # The text of a syntax error shows the statement.
        return cause if number == 1064 else _with(cause, text)
    return None


def _mysql_grant(text: str) -> str:
    if not (match := _DENIED.match(text)):
        return "grant the right that is missing"
    right, user, host, what, name = match.groups()
    if what == "column" and (column := re.match(r"'(.*?)' in table '(.*?)'", name)):
        return f"GRANT {right} ({column[1]}) ON {column[2]} TO '{user}'@'{host}'"
    return f"GRANT {right} ON {name} TO '{user}'@'{host}'"


# PostgreSQL.

_BY_STATE: dict[str, Cause] = {
    "28000": Cause("let in", "does not let us in", f"mend the user in {URL}, or pg_hba.conf"),
    "28P01": Cause("let in", "does not let us in", f"mend user and password in {URL}"),
    "3D000": Cause("no database", "is not there", f"mend its name in {URL}"),
    "3F000": Cause("no table", "has no such schema", SAME_IN_YAML),
    "40001": Cause("busy", "ended our transaction for another one", "", waits=True),
    "40P01": Cause("busy", "ended our transaction for another one", "", waits=True),
    "42601": Cause("wrong SQL", "does not understand the SQL", "mend `query:` or `where:`"),
    "42703": Cause("no column", "has no such column", SAME_IN_YAML),
    "42P01": Cause("no table", "has no such table", SAME_IN_YAML),
    "53300": Cause("too many", "has too many connections", "raise max_connections", waits=True),
    "55P03": Cause(
        "busy", "made us wait for a lock too long", "look for what holds it", waits=True
    ),
    "57P01": Cause("going down", "is shutting down", "start it again", waits=True),
    "57P02": Cause("going down", "is shutting down", "start it again", waits=True),
    "57P03": Cause("going down", "is starting or shutting down", "look again soon", waits=True),
}
_BY_TEXT = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ('role "', "28000"),
    ('database "', "3D000"),
    ("too many connections", "53300"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("the database system is", "57P03"),
)
_PRIVILEGE = re.compile(r"permission denied for (\w+(?: \w+)?) (\S+)")


def _postgresql(state: str, text: str, url: sql.URL) -> Cause | None:
    first = text.splitlines()[0] if text else ""
    said = first.rpartition("failed: ")[2].removeprefix("FATAL:").strip() or first
    if state == "42501":
        return Cause("no right", f"does not allow it ({first})", _postgresql_grant(first, url))
    if not state:
        if "does not support SSL" in text:
            return Cause("TLS", f"has no TLS ({said})", f"take sslmode out of {URL}")
        if "no pg_hba.conf entry" in text and "no encryption" in text:
            do = f"add ?sslmode=require to {URL}, or a line for this user to its pg_hba.conf"
            return Cause("TLS", f"does not let us in without TLS, or not at all ({said})", do)
        if "no pg_hba.conf entry" in text or "pg_hba.conf rejects" in text:
            do = "add a line for this user and host to its pg_hba.conf"
            return Cause("let in", f"does not let us in ({said})", do)
        if "timeout expired" in text:
            return Cause("silent", f"does not answer ({said})", START, waits=True)
        state = next((state for words, state in _BY_TEXT if words in text), "")
    if state in _BY_STATE:
        return _with(_BY_STATE[state], said) if state != "42601" else _BY_STATE[state]
    if state[:2] == "08":
        return Cause("silent", f"does not answer ({said})", START, waits=True)
    return _unreached(said) if not state else None


def _postgresql_grant(text: str, url: sql.URL) -> str:
    user = url.username or "CURRENT_USER"
    if not (match := _PRIVILEGE.search(text)):
        return f"grant the right that is missing to {user}"
    what, name = match.groups()
    rights = {
        "schema": f"USAGE ON SCHEMA {name}",
        "database": f"CONNECT ON DATABASE {name}",
        "sequence": f"USAGE ON SEQUENCE {name}",
        "function": f"EXECUTE ON FUNCTION {name}",
    }
    return f"GRANT {rights.get(what, f'SELECT ON {name}')} TO {user}"


def _unreached(text: str) -> Cause | None:
    """What the operating system says of a connection that was not made."""
    if "refused" in text or "No such file" in text:
        return Cause("refused", "does not answer: nothing takes connections", START, waits=True)
    if re.search(r"not known|resolve|No address|name resolution", text, re.IGNORECASE):
        says = "is on a host that nobody knows"
        return Cause("unknown host", says, f"mend the host in {URL}", waits=True)
    if re.search(r"timed out|unreachable|No route", text):
        return Cause("silent", "does not answer in time", START, waits=True)
    return None


def _with(cause: Cause, text: str) -> Cause:
    return Cause(cause.kind, f"{cause.says} ({text[:200]})", cause.do, cause.waits)


# SQLite.


def absent(url: sql.URL) -> Cause | None:
    """That a SQLite file is not there, or is no file: connecting would make it; else None."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    path = Path(str(url.database))
    if str(path).startswith("file:"):
        return None
    if not path.exists():
        return Cause("no file", f"is not there: no file {path}", f"mend the path in {URL}")
    if not path.is_file():
        return Cause("no file", f"is no file: {path}", f"mend the path in {URL}")
    if not os.access(path, os.R_OK):
        return Cause("no file", f"cannot be read as this user: {path}", f"chmod or chown {path}")
    return None


def _sqlite(text: str, url: sql.URL) -> Cause | None:
    if "locked" in text or "busy" in text:
        says = "is locked by another program"
        return Cause("busy", says, f"look for who writes to {url.database}", waits=True)
    if "not a database" in text or "malformed" in text:
        do = f"mend the path in {URL}, or the file"
        return Cause("no SQLite", f"is no SQLite file, or a broken one: {url.database}", do)
    if "unable to open" in text or "readonly" in text:
        says = f"cannot be opened as this user: {url.database}"
        return absent(url) or Cause("no file", says, "chmod or chown it and its directory")
    if "no such table" in text:
        return Cause("no table", f"has no such table ({text})", SAME_IN_YAML)
    if "no such column" in text:
        return Cause("no column", f"has no such column ({text})", SAME_IN_YAML)
    if re.search(r"syntax error|unrecognized token|incomplete input", text):
        return Cause("wrong SQL", "does not understand the SQL", "mend `query:` or `where:`")
    return None


# For whoever begins with a database.


def check(engine: sql.Engine) -> None:
    """Ask whether it is there and lets us in. Raises BridgeError that says why not."""
    check_there(engine.url)
    try:
        with reading(engine) as connection:
            connection.execute(sql.text("SELECT 1"))
            if engine.dialect.name == "sqlite":
                connection.execute(sql.text("SELECT 1 FROM sqlite_master LIMIT 1"))
    except sql.exc.SQLAlchemyError as error:
        raise unusable(error, engine.url) from error


def check_there(url: sql.URL) -> None:
    """Raises BridgeError for a SQLite file that is not there; connecting would make it."""
    if (cause := absent(url)) is not None:
        raise _told(cause, url)


def unusable(error: BaseException, url: sql.URL) -> BridgeError:
    """What to say when a database cannot be used and a person waits: a ServerMissing where it
    does not answer."""
    return _told(cause_of(error, url), url)


def _told(cause: Cause, url: sql.URL) -> BridgeError:
    whole = url.render_as_string(hide_password=False)
    where = whole if url.get_backend_name() == "sqlite" else redact_url(whole)
    text = f"the SQL database {cause.says}, at {where}: {cause.do}"
    if cause.waits:
        return ServerMissing("the SQL database", where, cause.do, cause.says, text=text)
    return BridgeError(text)
