"""Asks a server of MySQL or MariaDB which character sets it has."""

from __future__ import annotations

import sqlalchemy as sql

from bridge.errors import ServerAway
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import reading
from bridge.sync.log.charsets import Charset, Charsets

__all__ = ["charsets_of"]

# Since MariaDB 10.10 one collation may be of several character sets, each with its number.
_HAS_NUMBERS = """
SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'information_schema'
    AND table_name = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND column_name = 'ID'
"""
_COLLATIONS = """
SELECT c.id, c.character_set_name, s.maxlen FROM information_schema.{table} c
JOIN information_schema.character_sets s ON s.character_set_name = c.character_set_name
WHERE c.id IS NOT NULL
"""


def charsets_of(engine: sql.Engine) -> Charsets:
    """The character sets of a server; what their codes are is asked when one is met, which raises
    ServerAway. Raises SQLAlchemy's errors."""

    def ask(question: str) -> str:
        try:
            with reading(engine) as connection:
                return str(connection.exec_driver_sql(question).scalar_one())
        except sql.exc.SQLAlchemyError as error:
            raise ServerAway(f"the SQL database {cause_of(error, engine.url)}") from error

    with reading(engine) as connection:
        numbered = connection.exec_driver_sql(_HAS_NUMBERS).scalar_one()
        table = "COLLATION_CHARACTER_SET_APPLICABILITY" if numbered else "COLLATIONS"
        rows = connection.exec_driver_sql(_COLLATIONS.format(table=table)).all()
    known = {int(number): Charset(str(name), int(longest)) for number, name, longest in rows}
    return Charsets(known, ask)
