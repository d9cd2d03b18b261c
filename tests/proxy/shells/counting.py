"""`bridge.wsgi:application` with two things that only `bridgectl serve` can be told: its requests
are counted, and it has as many threads for handlers as TEST_HANDLERS says."""

from __future__ import annotations

import os

import bridge.wsgi
from bridge.proxy.hooks import Outcome
from bridge.proxy.python.threads import HandlerThreads
from bridge.proxy.telemetry.accesslog import AccessLog
from bridge.proxy.telemetry.metrics import Metrics
from bridge.settings import Settings

__all__ = ["application"]

_counters = Metrics(Settings.from_environ().state_dir, 0)


class CountedLog(AccessLog):
    """An access log that counts, too."""

    def after_response(self, outcome: Outcome) -> None:
        _counters.after_response(outcome)
        super().after_response(outcome)


bridge.wsgi.AccessLog = CountedLog  # type: ignore[misc]
application = bridge.wsgi.application
application.threads = HandlerThreads(int(os.environ.get("TEST_HANDLERS", "16")))
