"""Where things are: the BRIDGE_* environment and the URLs of servers.

What the site's routes are is in routes.yaml, never here; secrets are here, never there.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bridge.errors import BridgeError
from bridge.units import parse_duration

__all__ = ["Settings", "doubts", "import_limit", "redact_url"]

_KEY_ID = re.compile(r"[a-z0-9]{1,16}")
_SHORTEST_SECRET = 16  # characters
_SECRETS = ("BRIDGE_SECRET", "BRIDGE_OPERATOR_TOKEN", "BRIDGE_FRESHNESS_KEYS", "BRIDGE_SQL_URL")
_NAMES = frozenset(
    (
        "BRIDGE_ACCESS_LOG",
        "BRIDGE_BROKER_URL",
        "BRIDGE_IMPORT_LIMIT",
        "BRIDGE_MONGODB_URL",
        "BRIDGE_ROUTES",
        "BRIDGE_SERVE_LOCK",
        "BRIDGE_STATE_DIR",
        "BRIDGE_SYNC",
        *_SECRETS,
        *(f"{name}_FILE" for name in _SECRETS),
    )
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting that comes from the environment.

    URLs may hold passwords: show them only through `redact_url`. `secret` signs preview
    cookies; empty means that previews are off. `sql_url` is the site's database, empty where
    the bridge does not read it. `freshness_keys` are (id, secret) pairs that the cookie of a
    visitor's own edit is signed with, the first one by Python; empty means that there is none.
    `uses_broker` and `uses_mongodb` say that somebody named them, or that there is something to
    carry: a site with the proxy alone has neither, and is not asked for them.
    """

    routes: Path
    broker_url: str
    mongodb_url: str
    state_dir: Path
    secret: str = ""
    operator_token: str = ""
    sync: Path = Path("sync.yaml")
    sql_url: str = ""
    freshness_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    uses_broker: bool = True
    uses_mongodb: bool = True

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read BRIDGE_ROUTES, BRIDGE_BROKER_URL, BRIDGE_MONGODB_URL, BRIDGE_STATE_DIR,
        BRIDGE_SYNC, and BRIDGE_SQL_URL, BRIDGE_SECRET, BRIDGE_OPERATOR_TOKEN and
        BRIDGE_FRESHNESS_KEYS (each of these four also as …_FILE).

        sync.yaml and the state directory are beside routes.yaml where they are not named.

        Raises BridgeError when a …_FILE cannot be read, and for keys that are none.
        """
        env = os.environ if environ is None else environ
        import_limit(env)
        routes = Path(env.get("BRIDGE_ROUTES", "routes.yaml"))
        sync = Path(env.get("BRIDGE_SYNC") or routes.parent / "sync.yaml")
        broker_url, mongodb_url = env.get("BRIDGE_BROKER_URL"), env.get("BRIDGE_MONGODB_URL")
        sql_url = _secret(env, "BRIDGE_SQL_URL")
        carries = bool(sql_url) or os.path.exists(sync)
        return cls(
            routes=routes,
            broker_url=broker_url or "redis+streams://127.0.0.1:6379/0",
            mongodb_url=mongodb_url or "mongodb://127.0.0.1:27017/bridge",
            state_dir=Path(env.get("BRIDGE_STATE_DIR") or routes.resolve().parent / ".bridge"),
            secret=_secret(env, "BRIDGE_SECRET"),
            operator_token=_secret(env, "BRIDGE_OPERATOR_TOKEN"),
            sync=sync,
            sql_url=sql_url,
            freshness_keys=_keys("BRIDGE_FRESHNESS_KEYS", _secret(env, "BRIDGE_FRESHNESS_KEYS")),
            uses_broker=carries or bool(broker_url),
            uses_mongodb=carries or bool(mongodb_url),
        )


def import_limit(environ: Mapping[str, str] | None = None) -> float:
    """BRIDGE_IMPORT_LIMIT: seconds after which the import of a handler is said to hang.

    Raises BridgeError where it is no time.
    """
    env = os.environ if environ is None else environ
    try:
        return parse_duration(env.get("BRIDGE_IMPORT_LIMIT") or "10s")
    except ValueError as error:
        raise BridgeError(f"BRIDGE_IMPORT_LIMIT: {error}") from None


def doubts(environ: Mapping[str, str] | None = None) -> list[tuple[str, str, str]]:
    """What is allowed in the environment and hardly meant: the variable, what is odd, what to do.
    No value of a secret is in it."""
    env = os.environ if environ is None else environ
    found = []
    for name in sorted(env):
        if name.startswith("BRIDGE_") and name not in _NAMES:
            own = {known.removeprefix("BRIDGE_"): known for known in _NAMES}
            near = difflib.get_close_matches(name.removeprefix("BRIDGE_"), own, n=1)
            hint = f"did you mean {own[near[0]]}?" if near else "remove it, or mend its name"
            found.append((name, "nothing has this name, so it does nothing", hint))
    for name in ("BRIDGE_SECRET", "BRIDGE_OPERATOR_TOKEN"):
        if 0 < (length := len(_secret(env, name))) < _SHORTEST_SECRET:
            says = f"has {length} characters, which can be guessed"
            found.append((name, says, "set it to the output of `openssl rand -hex 32`"))
    return found


def _secret(env: Mapping[str, str], name: str) -> str:
    if value := env.get(name):
        return value
    if not (path := env.get(f"{name}_FILE")):
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BridgeError(f"{name}_FILE={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BridgeError(f"{name}_FILE={path} cannot be read: it is not UTF-8") from None


def _keys(name: str, text: str) -> tuple[tuple[str, str], ...]:
    """`id:secret` pairs separated by white space. No message repeats any of the text: whoever
    forgets the id has written the secret in its place."""
    keys: dict[str, str] = {}
    for number, word in enumerate(text.split(), 1):
        key, colon, secret = word.partition(":")
        if not colon or not _KEY_ID.fullmatch(key):
            raise BridgeError(
                f"{name}: key {number} is not written as id:secret, with an id of 1 to 16 "
                "small letters and digits; write for example a1: and then the output of "
                "`openssl rand -hex 32`"
            )
        if len(secret) < _SHORTEST_SECRET:
            raise BridgeError(
                f"{name}: the secret of key {number} has {len(secret)} characters; "
                f"it needs {_SHORTEST_SECRET} at least"
            )
        if key in keys:
            raise BridgeError(f"{name}: key {number} has the id of an earlier one; give it another")
        keys[key] = secret
    return tuple(keys.items())


def redact_url(url: str) -> str:
    """`url` without its user's password and without its query, fit for a log or a terminal.

    Of what is no URL only the scheme is shown: nobody knows where the password is.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    userinfo, at, hostport = parts.netloc.rpartition("@")
    if at:
        user = userinfo.partition(":")[0]
        hostport = f"{user}:***@{hostport}" if ":" in userinfo else f"{user}@{hostport}"
    # Not by urlunsplit, for which `sqlite:////srv/x` and `sqlite://srv/x` are one.
    slashes = "//" if url[len(parts.scheme) :].startswith("://") else ""
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    return f"{scheme}{slashes}{hostport}{parts.path}"
