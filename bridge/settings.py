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
from urllib.parse import unquote, unquote_plus

from bridge.errors import BridgeError
from bridge.units import parse_duration

__all__ = [
    "BROKER_URL",
    "MONGODB_URL",
    "Settings",
    "doubts",
    "import_limit",
    "redact_text",
    "redact_url",
]

_KEY_ID = re.compile(r"[a-z0-9]{1,16}")
_RELEASE = re.compile(r"[!-~]{0,80}")
_SHORTEST_SECRET = 16  # characters
_SECRETS = (
    "BRIDGE_SECRET",
    "BRIDGE_OPERATOR_TOKEN",
    "BRIDGE_FRESHNESS_KEYS",
    "BRIDGE_SQL_URL",
    "BRIDGE_RABBITMQ_API",
)
_NAMES = frozenset(
    (
        "BRIDGE_ACCESS_LOG",
        "BRIDGE_BROKER_URL",
        "BRIDGE_IMPORT_LIMIT",
        "BRIDGE_MONGODB_URL",
        "BRIDGE_RELEASE",
        "BRIDGE_ROUTES",
        "BRIDGE_SERVE_LOCK",
        "BRIDGE_STATE_DIR",
        "BRIDGE_SYNC",
        *_SECRETS,
        *(f"{name}_FILE" for name in _SECRETS),
    )
)


BROKER_URL = "redis+streams://127.0.0.1:6379/0"
MONGODB_URL = "mongodb://127.0.0.1:27017/bridge"
"""Where servers are that nobody named."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting that comes from the environment.

    URLs may hold passwords: show them only through `redact_url`. `secret` signs preview
    cookies; empty means that previews are off. `sql_url` is the site's database, empty where
    the bridge does not read it. `release` names the code of the handlers, empty where its files
    do. `rabbitmq_api` is RabbitMQ's HTTP API, which only doctor asks.
    `freshness_keys` are (id, secret) pairs that the cookie of a
    visitor's own edit is signed with, the first one by Python; empty means that there is none.
    `uses_broker` and `uses_mongodb` say that somebody named them, or that there is something to
    carry: a site with the proxy alone has neither, and is not asked for them.
    """

    routes: Path
    broker_url: str = field(repr=False)
    mongodb_url: str = field(repr=False)
    state_dir: Path
    secret: str = field(default="", repr=False)
    operator_token: str = field(default="", repr=False)
    sync: Path = Path("sync.yaml")
    sql_url: str = field(default="", repr=False)
    rabbitmq_api: str = field(default="", repr=False)
    freshness_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    uses_broker: bool = True
    uses_mongodb: bool = True
    release: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read BRIDGE_ROUTES, BRIDGE_BROKER_URL, BRIDGE_MONGODB_URL, BRIDGE_STATE_DIR,
        BRIDGE_SYNC, BRIDGE_RELEASE, and BRIDGE_SQL_URL, BRIDGE_SECRET, BRIDGE_OPERATOR_TOKEN,
        BRIDGE_RABBITMQ_API and BRIDGE_FRESHNESS_KEYS (each of these five also as …_FILE).

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
            broker_url=broker_url or BROKER_URL,
            mongodb_url=mongodb_url or MONGODB_URL,
            state_dir=Path(env.get("BRIDGE_STATE_DIR") or routes.resolve().parent / ".bridge"),
            secret=_secret(env, "BRIDGE_SECRET"),
            operator_token=_secret(env, "BRIDGE_OPERATOR_TOKEN"),
            sync=sync,
            sql_url=sql_url,
            rabbitmq_api=_secret(env, "BRIDGE_RABBITMQ_API"),
            freshness_keys=_keys("BRIDGE_FRESHNESS_KEYS", _secret(env, "BRIDGE_FRESHNESS_KEYS")),
            uses_broker=carries or bool(broker_url),
            uses_mongodb=carries or bool(mongodb_url),
            release=_release(env.get("BRIDGE_RELEASE") or ""),
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
            found.append((name, "the bridge reads no such name, so it has no effect", hint))
    for name in ("BRIDGE_SECRET", "BRIDGE_OPERATOR_TOKEN"):
        if 0 < (length := len(_secret(env, name))) < _SHORTEST_SECRET:
            says = f"has {length} characters, which can be guessed"
            found.append((name, says, "set it to the output of `openssl rand -hex 32`"))
    return found


def _release(text: str) -> str:
    if not _RELEASE.fullmatch(text):
        raise BridgeError(
            f"BRIDGE_RELEASE: {text!r} is no name of a release; write up to 80 letters, digits and "
            "signs without a space, for example a commit"
        )
    return text


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


_SEVERAL = re.compile(r";(?=[a-zA-Z][a-zA-Z0-9+.-]*://)")
_HOST = r"(?:[\w.%~-]*|\[[\w:.%]*\])(?::[0-9]*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_UNSURE = (
    "a user name or a password in it has a character that has a meaning in a URL: write each of "
    "/ ? # @ : ; as % and two digits, for example %2F for /"
)


def redact_url(url: str, mask: str = "***") -> str:
    """`url` without passwords and without its query, fit for a log or a terminal.

    It may be several URLs with `;` between them, and one may name several hosts. Where nobody
    knows for sure where a password ends, only the scheme is shown.
    """
    return ";".join(_redact_one(one, mask) for one in _SEVERAL.split(url))


def redact_text(text: object, url: str) -> str:
    """What an error says about `url`, without the passwords in that; what is to be mended where
    nobody knows where they end."""
    shown = str(text)
    for one in _SEVERAL.split(url):
        if (found := _authority(one)) is None:
            return _UNSURE
        password = found[1].partition(":")[2]
        query = (pair.partition("=") for pair in one.partition("?")[2].split("&"))
        raw = [password, *(value for name, _, value in query if "pass" in name)]
        for secret in {*raw, *map(unquote, raw), *map(unquote_plus, raw)} - {""}:
            shown = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", shown)
    return shown


def _redact_one(url: str, mask: str) -> str:
    scheme, mark, _ = url.partition("://")
    if not mark:
        # unix:/path, which has no user.
        return f"{url.partition(':')[0]}:…" if "@" in url else url.partition("?")[0]
    if (found := _authority(url)) is None:
        return f"{scheme}://…"
    at, userinfo, hosts, path = found
    user, colon, _ = userinfo.partition(":")
    return f"{scheme}://{user}{colon}{mask if colon else ''}{at}{hosts}{path}"


def _authority(url: str) -> tuple[str, str, str, str] | None:
    """The `@` if there is one, what is before it, hosts, and path; None where an `@`, `/`, `?` or
    `#` may belong to a password."""
    rest = url.partition("://")[2]
    end = next((i for i, c in enumerate(rest) if c in "/?#"), len(rest))
    userinfo, at, hosts = rest[:end].rpartition("@")
    path = re.split("[?#]", rest[end:], maxsplit=1)[0]
    sure = "@" not in userinfo and _HOSTS.fullmatch(hosts)
    # A query may hold an @, but then nothing before it may look like a user with a password.
    if not sure or "@" in path or ("@" in rest[end:] and (at or ":" in hosts)):
        return None
    return at, userinfo, hosts, path
