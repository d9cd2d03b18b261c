"""For any WSGI server: `gunicorn -k gthread bridge.wsgi:application`.

Settings come from the BRIDGE_* environment; BRIDGE_ACCESS_LOG names a file for the access log.
`bridgectl serve` has more: metrics, WebSockets, and nothing of the server in the answers.
"""

from __future__ import annotations

import os

from bridge import logs
from bridge.files import LOOP_TOKEN, shared_token
from bridge.gating import start_gate
from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.shadow.tap import Shadow
from bridge.proxy.telemetry.accesslog import AccessLog
from bridge.proxy.wsgi.dispatcher import Dispatcher
from bridge.settings import Settings

__all__ = ["application", "build"]  # noqa: F822 - made by __getattr__


def build(settings: Settings, access_log: str = "") -> Dispatcher:
    """The Dispatcher over a routes.yaml that is watched. Raises ConfigError when it is broken
    and there is no last good copy in the state directory."""
    logs.configure()
    reloader = Reloader(settings.routes, settings.state_dir)
    reloader.start()
    gate, _ = start_gate(settings)
    hooks: list[Hooks] = [AccessLog(access_log)] if access_log else []
    return Dispatcher(
        Front(
            reloader.table,
            secret=settings.secret,
            loop_secret=shared_token(settings.state_dir / LOOP_TOKEN),
            hooks=hooks,
            gate=gate,
            shadow=Shadow(settings.state_dir),
        )
    )


def __getattr__(name: str) -> Dispatcher:
    """`application` is made when a server asks for it, so that importing has no effect."""
    if name != "application":
        raise AttributeError(name)
    made = build(Settings.from_environ(), os.environ.get("BRIDGE_ACCESS_LOG", ""))
    globals()["application"] = made
    return made
