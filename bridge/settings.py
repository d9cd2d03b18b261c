"""Where things are: the BRIDGE_* environment and the URLs of servers.

What the site's routes are is in routes.yaml, never here; secrets are here, never there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bridge.errors import BridgeError

__all__ = ["Settings", "redact_url"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting that comes from the environment.

    URLs may hold passwords: show them only through `redact_url`. `secret` signs preview
    cookies; empty means that previews are off. `sql_url` is the site's database, empty where
    the bridge does not read it.
    """

    routes: Path
    broker_url: str
    mongodb_url: str
    state_dir: Path
    secret: str = ""
    operator_token: str = ""
    sync: Path = Path("sync.yaml")
    sql_url: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read BRIDGE_ROUTES, BRIDGE_BROKER_URL, BRIDGE_MONGODB_URL, BRIDGE_STATE_DIR,
        BRIDGE_SYNC, and BRIDGE_SQL_URL, BRIDGE_SECRET and BRIDGE_OPERATOR_TOKEN (each of these
        three also as …_FILE).

        Raises BridgeError when a …_FILE cannot be read.
        """
        env = os.environ if environ is None else environ
        routes = Path(env.get("BRIDGE_ROUTES", "routes.yaml"))
        return cls(
            routes=routes,
            broker_url=env.get("BRIDGE_BROKER_URL", "redis+streams://127.0.0.1:6379/0"),
            mongodb_url=env.get("BRIDGE_MONGODB_URL", "mongodb://127.0.0.1:27017/bridge"),
            state_dir=Path(env.get("BRIDGE_STATE_DIR") or routes.resolve().parent / ".bridge"),
            secret=_secret(env, "BRIDGE_SECRET"),
            operator_token=_secret(env, "BRIDGE_OPERATOR_TOKEN"),
            sync=Path(env.get("BRIDGE_SYNC", "sync.yaml")),
            sql_url=_secret(env, "BRIDGE_SQL_URL"),
        )


def _secret(env: Mapping[str, str], name: str) -> str:
    if value := env.get(name):
        return value
    if not (path := env.get(f"{name}_FILE")):
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BridgeError(f"{name}_FILE={path} cannot be read: {error.strerror}") from None


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
    return urlunsplit((parts.scheme, hostport, parts.path, "", ""))
