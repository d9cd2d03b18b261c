"""Where things are when nobody says so, and what is only a default."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from bridge.settings import Settings, doubts, redact_url


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
    assert "does nothing" in says


@pytest.mark.parametrize("name", ["BRIDGE_SECRET", "BRIDGE_OPERATOR_TOKEN"])
def test_a_secret_that_can_be_guessed_is_named_and_not_shown(tmp_path: Path, name: str) -> None:
    ((variable, says, _),) = doubts({name: "abc"})
    assert (variable, says) == (name, "has 3 characters, which can be guessed")
    file = tmp_path / "secret"
    file.write_text("abc\n")
    assert [one[0] for one in doubts({f"{name}_FILE": str(file)})] == [name]
    assert doubts({name: "0123456789abcdef"}) == []
    assert doubts({name: ""}) == []


paths = st.text(st.sampled_from("abc./ -_%"), max_size=12)


@bounds(deadline=None)
@given(
    scheme=st.sampled_from(["sqlite", "mysql", "redis+streams", "mongodb", "amqp"]),
    user=st.sampled_from(["", "u", "u:hush", ":hush", "u:hu@sh"]),
    host=st.sampled_from(["", "h", "h:1", "[::1]:2", "a:1,b:2"]),
    path=paths,
)
def test_a_url_is_shown_as_it_is_but_for_its_password(
    scheme: str, user: str, host: str, path: str
) -> None:
    """Whether it has two slashes, three or four is part of where a file is."""
    at = f"{user}@" if user else ""
    shown = redact_url(f"{scheme}://{at}{host}/{path}?password=hush")
    name = user.partition(":")[0]
    hidden = f"{name}:***@" if ":" in user else at
    assert shown == f"{scheme}://{hidden}{host}/{path}"


def test_what_has_no_slashes_gets_none() -> None:
    assert redact_url("unix:/run/php.sock") == "unix:/run/php.sock"
    assert redact_url("sqlite:////srv/site.db") == "sqlite:////srv/site.db"
    assert redact_url("nonsense") == "nonsense"
