"""Where things are when nobody says so, and what is only a default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import kombu
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.queue.broker import connection as broker
from bridge.queue.sql import cause as sqlcause
from bridge.queue.sql import database
from bridge.queue.sql.outbox import Outbox
from bridge.queue.streams import url as redisurl
from bridge.settings import Settings, doubts, redact_text, redact_url
from bridge.sync import mongodb
from bridge.sync.server_errors import broker_missing, mongodb_missing
from stack.ports import free_port


def test_sync_yaml_and_the_state_are_beside_routes_yaml(tmp_path: Path) -> None:
    found = Settings.from_environ({"BRIDGE_ROUTES": str(tmp_path / "routes.yaml")})
    assert (found.sync, found.state_dir) == (tmp_path / "sync.yaml", tmp_path / ".bridge")
    assert Settings.from_environ({}).sync == Path("sync.yaml")
    assert Settings.from_environ({"BRIDGE_SYNC": "/x/s.yaml"}).sync == Path("/x/s.yaml")


@pytest.mark.parametrize(
    ("named", "uses"),
    [
        ({}, (False, False)),
        ({"BRIDGE_BROKER_URL": ""}, (False, False)),
        ({"BRIDGE_BROKER_URL": "redis://127.0.0.1/0"}, (True, False)),
        ({"BRIDGE_MONGODB_URL": "mongodb://127.0.0.1/b"}, (False, True)),
        ({"BRIDGE_SQL_URL": "sqlite:///site.sqlite"}, (True, True)),
    ],
)
def test_a_server_is_used_when_it_is_named_or_there_is_something_to_carry(
    tmp_path: Path, named: dict[str, str], uses: tuple[bool, bool]
) -> None:
    env = {"BRIDGE_ROUTES": str(tmp_path / "routes.yaml"), **named}
    found = Settings.from_environ(env)
    assert (found.uses_broker, found.uses_mongodb) == uses
    (tmp_path / "sync.yaml").write_text("version: 1\n")
    found = Settings.from_environ(env)
    assert (found.uses_broker, found.uses_mongodb) == (True, True)


def test_a_release_has_a_name_that_fits_into_a_line() -> None:
    assert Settings.from_environ({}).release == ""
    assert Settings.from_environ({"BRIDGE_RELEASE": "v2.1-4-gab12"}).release == "v2.1-4-gab12"
    for odd in ("two words", "x" * 81, "tab\t", "ü"):
        with pytest.raises(BridgeError, match="is no name of a release"):
            Settings.from_environ({"BRIDGE_RELEASE": odd})


FORMS = {
    "redis+streams://u:{}@10.0.0.1:6379/0": "redis+streams://u:***@10.0.0.1:6379/0",
    "redis://:{}@host/0?reclaim_idle=60": "redis://:***@host/0",
    "rediss+streams://host/0?password={}&x=1": "rediss+streams://host/0",
    "redis+sentinel+streams://u:{}@a:1,[::1]:5,b/m/0?sentinel_password={}": (
        "redis+sentinel+streams://u:***@a:1,[::1]:5,b/m/0"
    ),
    "redis+sentinel+streams://a:1,b:2/m/0?sentinel_password={}": (
        "redis+sentinel+streams://a:1,b:2/m/0"
    ),
    "amqp://u:{}@a/v": "amqp://u:***@a/v",
    "amqps://u:{}@a:5671//;amqps://u:{}@b//;amqps://w:{}@[::1]:5//": (
        "amqps://u:***@a:5671//;amqps://u:***@b//;amqps://w:***@[::1]:5//"
    ),
    "mongodb://u:{}@a:1,b:2/bridge?replicaSet=r": "mongodb://u:***@a:1,b:2/bridge",
    "mongodb+srv://u:{}@cluster.example.org/bridge": (
        "mongodb+srv://u:***@cluster.example.org/bridge"
    ),
    "mysql+pymysql://u:{}@h:3306/shop?charset=utf8": "mysql+pymysql://u:***@h:3306/shop",
    "mysql://u:{}@/shop?unix_socket=/run/my.sock": "mysql://u:***@/shop",
    "postgresql+psycopg://u:{}@h/shop": "postgresql+psycopg://u:***@h/shop",
    "postgresql://h/shop?user=u&password={}": "postgresql://h/shop",
    "https://u:{}@bridge.example.org/events": "https://u:***@bridge.example.org/events",
}
"""Every form of URL that the product takes, with a place for its passwords, and what is shown."""
NOBODY = free_port()
BARE = {
    "sqlite:////srv/site.db": "sqlite:////srv/site.db",
    "sqlite:///site.db": "sqlite:///site.db",
    "unix:/run/php.sock": "unix:/run/php.sock",
    "http://127.0.0.1:8080": "http://127.0.0.1:8080",
    "amqp://a/v;amqp://b/v": "amqp://a/v;amqp://b/v",
    "http://[::1": "http://…",
}


@pytest.mark.parametrize(("form", "shown"), [*FORMS.items(), *BARE.items()])
def test_a_url_is_shown_with_all_but_its_passwords(form: str, shown: str) -> None:
    assert redact_url(form.replace("{}", "p%40ss")) == shown


# Of these none is a piece of what is shown anyhow.
_SECRETS = st.text(st.sampled_from("QXZ479/?#@:;[]% \t%'\"é,&=+."), max_size=8).map(
    lambda text: f"Q{text}Z"
)


def _pieces(secret: str) -> list[str]:
    """What may not be seen: the password as a whole, and where a reader could have cut it."""
    return [secret, *(piece for piece in (secret[:3], secret[-3:]) if len(piece) == 3)]


@given(form=st.sampled_from(sorted(FORMS)), secret=_SECRETS)
@example(form="amqp://u:{}@a/v", secret="Q7/Z")
@example(form="amqp://u:{}@a/v", secret="Q?7@Z")
def test_no_password_is_shown_even_where_it_is_not_written_as_a_url_has_it(
    form: str, secret: str
) -> None:
    shown = redact_url(form.replace("{}", secret))
    assert not [piece for piece in _pieces(secret) if piece in shown]


@given(form=st.sampled_from(sorted(FORMS)), secret=_SECRETS)
def test_an_error_about_a_url_shows_no_password(form: str, secret: str) -> None:
    quoted = quote(secret, safe="")
    for written in (quoted,) if "password=" in form else (secret, quoted):
        url = form.replace("{}", written)
        for text in (f"cannot read {url}", f"cannot log in with {secret!s} at all"):
            assert secret not in redact_text(text, url)


def _about_sql(url: str) -> str:
    """What is said about a database that does not answer, and in a log."""
    engine = database.connect(url)
    return f"{sqlcause.unusable(OSError('away'), engine.url)} {Outbox(engine)!r}"


@pytest.mark.parametrize("secret", ["Qp/Zw", "Qp?Zw", "Qp#Zw", "Qp@Zw", "Qp:Zw", "Q7;Zw", "Qp[Zw"])
@pytest.mark.parametrize("form", sorted(form for form in FORMS if ":{}@" in form))
def test_whoever_cannot_use_a_url_shows_no_password(form: str, secret: str) -> None:
    """Of Kombu, redis-py, PyMongo and SQLAlchemy some quote a part of the URL in their errors."""
    url = form.replace("{}", secret)
    # Nobody listens there, where the URL can be read at all.
    for host in (
        "10.0.0.1:6379",
        "host",
        "a:5671",
        "a:1,[::1]:5,b",
        "a:1,b:2",
        "[::1]:5",
        "a",
        "b",
    ):
        url = url.replace(f"@{host}/", f"@127.0.0.1:{NOBODY}/")
    told = [str(broker_missing(url, "x")), str(mongodb_missing(url, BridgeError("x")))]
    uses: list[Callable[[], object]] = []
    if url.startswith(("redis", "amqp")):
        uses += [lambda: broker.connect(url)]
        if ";" not in url:
            uses += [lambda: repr(kombu.Connection(redisurl.kombu_url(url)))]
    elif url.startswith("mongodb:"):
        uses += [lambda: mongodb.ping(url)]
    elif not url.startswith(("http", "mongodb")):
        uses += [lambda: _about_sql(url)]
    for use in uses:
        try:
            told.append(repr(use()))
        except (BridgeError, ValueError) as error:
            told.append(str(error))
    told.append(repr(Settings(Path("r"), url, url, Path("s"), sql_url=url)))
    shown = "\n".join(told)
    assert "Zw" not in shown
    assert secret not in shown


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BRIDGE_MONGO_URL", "did you mean BRIDGE_MONGODB_URL?"),
        ("BRIDGE_SECRETS", "did you mean BRIDGE_SECRET?"),
        ("BRIDGE_XYZZY", "remove it, or mend its name"),
    ],
)
def test_a_variable_that_nothing_reads_is_named(name: str, hint: str) -> None:
    ((variable, says, do),) = doubts({name: "x", "PATH": "/bin", "BRIDGE_SYNC": "s.yaml"})
    assert (variable, do) == (name, hint)
    assert "has no effect" in says


@pytest.mark.parametrize("name", ["BRIDGE_SECRET", "BRIDGE_OPERATOR_TOKEN"])
def test_a_secret_that_can_be_guessed_is_named_and_not_shown(tmp_path: Path, name: str) -> None:
    ((variable, says, _),) = doubts({name: "abc"})
    assert (variable, says) == (name, "has 3 characters, which can be guessed")
    file = tmp_path / "secret"
    file.write_text("abc\n")
    assert [one[0] for one in doubts({f"{name}_FILE": str(file)})] == [name]
    assert doubts({name: "0123456789abcdef"}) == []
    assert doubts({name: ""}) == []
