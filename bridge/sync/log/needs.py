"""What a server must have so that its log can be read: settings, rights, and what is to be typed
where one is missing. `missing` is pure; `look` asks.

Only `log_bin` needs a restart of the server; all else is changed while it runs, for sessions that
begin later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.sync.log.cascades import Cascade
from bridge.sync.types.definition import foreign_keys

__all__ = ["Facts", "Need", "cascades", "check", "keeps", "look", "missing"]

SETTINGS = (
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_transaction_compression",
    "gtid_mode",
    "enforce_gtid_consistency",
    "gtid_domain_id",
    "gtid_binlog_pos",
    "server_id",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "version",
)
DAY = 24 * 3600
_KEEPS = 2 * DAY
"""Seconds for which the server should keep its log: a weekend in which nobody looks."""


@dataclass(frozen=True, slots=True)
class Facts:
    """settings: name to value, of those that the server has. grants: what SHOW GRANTS says of this
    user, nothing where the server has no rights. user: as the server calls it."""

    settings: Mapping[str, str]
    grants: Sequence[str]
    user: str

    @property
    def is_mariadb(self) -> bool:
        """Or else it is MySQL."""
        return "mariadb" in self.settings.get("version", "").casefold()


@dataclass(frozen=True, slots=True)
class Need:
    """Something that is not as it must be. says: what, and what comes of it. do: what is to be
    typed, or written into the server's configuration. is_advice: the log can be read without."""

    says: str
    do: str
    is_advice: bool = False


def look(connection: sql.Connection) -> Facts:
    """Ask the server. Raises SQLAlchemy's errors."""
    found: dict[str, str] = {}
    for name, value in connection.exec_driver_sql("SHOW GLOBAL VARIABLES"):
        if str(name) in SETTINGS:
            found[str(name)] = str(value)
    try:
        grants = [str(row[0]) for row in connection.exec_driver_sql("SHOW GRANTS")]
    except sql.exc.OperationalError:
        grants = []  # it runs without tables of rights
    user = str(connection.exec_driver_sql("SELECT CURRENT_USER()").scalar())
    return Facts(found, grants, user)


def missing(facts: Facts) -> list[Need]:
    """What is not as it must be, and what would be better otherwise."""
    settings, needs = facts.settings, []
    if settings.get("log_bin", "").upper() not in ("ON", "1"):
        needs.append(
            Need(
                "the server writes no log",
                "write under [mysqld] in the server's configuration: log_bin = mysql-bin, "
                "server_id = 1, binlog_format = ROW, binlog_row_image = FULL, "
                "binlog_row_metadata = FULL; and restart it",
            )
        )
    for name, wanted, says in _WANTED:
        if name in settings and settings[name].upper() != wanted:
            value = wanted or "''"
            do = f"SET GLOBAL {name} = {value}; and write it into the server's configuration. "
            do += "Sessions that are open keep theirs: restart PHP's persistent connections"
            needs.append(Need(f"{name} is {settings[name]}, so that {says}", do))
    if "binlog_row_metadata" not in settings:
        needs.append(
            Need(
                f"the server ({settings.get('version', 'unknown')}) cannot write the names of "
                "columns into its log",
                "MariaDB can since 10.5, MySQL since 8.0.1",
            )
        )
    if not facts.is_mariadb and settings.get("gtid_mode", "").upper() != "ON":
        needs.append(
            Need(
                "transactions have no number",
                "set gtid_mode and enforce_gtid_consistency to ON, in the steps that MySQL's "
                "manual names",
            )
        )
    domains = {one.partition("-")[0] for one in settings.get("gtid_binlog_pos", "").split(",")}
    if len(domains) > 1:
        needs.append(
            Need(
                f"the log has transactions of {len(domains)} domains "
                f"({settings['gtid_binlog_pos']}), and the mirror follows one",
                "let every server that writes have one gtid_domain_id, and FLUSH BINARY LOGS "
                "DELETE_DOMAIN_ID = (…) those that are not used any more",
            )
        )
    if not _may_read(facts.grants):
        do = f"GRANT REPLICATION SLAVE ON *.* TO {_quoted(facts.user)}"
        needs.append(Need(f"{facts.user} may not read the log", do))
    kept = keeps(facts)
    if kept is not None and kept < _KEEPS:
        do = f"SET GLOBAL binlog_expire_logs_seconds = {7 * DAY}"
        if "binlog_expire_logs_seconds" not in settings:
            do = "SET GLOBAL expire_logs_days = 7"
        needs.append(
            Need(
                f"the server throws its log away after {kept / DAY:.1f} days: where nobody "
                "reads it for longer, everything is to be loaded again",
                f"{do}; and write it into the server's configuration",
                is_advice=True,
            )
        )
    return needs


def keeps(facts: Facts) -> float | None:
    """For how many seconds the server keeps a file of its log after the last change of it; None:
    until somebody throws it away."""
    units = {"binlog_expire_logs_seconds": 1, "expire_logs_days": DAY}
    found = [
        float(facts.settings[name]) * unit
        for name, unit in units.items()
        if re.fullmatch(r"[0-9.]+", facts.settings.get(name, ""))
    ]
    # Where the server has both they say the same, one of them in whole days.
    return min((seconds for seconds in found if seconds > 0), default=None)


_WANTED = (
    ("binlog_format", "ROW", "changes come as statements, from which no row is known"),
    ("binlog_row_image", "FULL", "the log holds parts of rows"),
    ("binlog_row_metadata", "FULL", "the log names no columns, and no signs of numbers"),
    ("binlog_row_value_options", "", "the log holds parts of JSON values"),
    ("binlog_transaction_compression", "OFF", "the log is compressed in a way that is not read"),
)


def check(facts: Facts) -> None:
    """Raises BridgeError with all that keeps the log from being read."""
    wrong = [need for need in missing(facts) if not need.is_advice]
    if wrong:
        raise BridgeError("; ".join(f"{need.says}: {need.do}" for need in wrong))


_READS = re.compile(r"\b(?:ALL PRIVILEGES|REPLICATION (?:SLAVE|REPLICA))\b")


def _may_read(grants: Sequence[str]) -> bool:
    if not grants:
        return True  # a server without rights
    return any(" ON *.* TO " in one and _READS.search(one) for one in grants)


def _quoted(user: str) -> str:
    name, _, host = user.rpartition("@")
    return "@".join("'" + part.replace("'", "''") + "'" for part in (name, host))


def cascades(connection: sql.Connection) -> list[Cascade]:
    """All that this user may see. Raises SQLAlchemy's errors."""
    made = [Cascade(*one) for one in foreign_keys(connection)]
    return [one for one in made if one.changes]
