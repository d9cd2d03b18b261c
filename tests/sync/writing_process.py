"""A process that applies events: what the tests start, feed and kill.

python -m tests.sync.writing_process SYNC_YAML MONGODB_URL

It reads lines of JSON, each a list of batches of events, applies them in order, and answers each
line with `done`. A line {"die_before": n} makes it kill itself just before it sends its nth command
from then on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from pymongo.monitoring import CommandListener, CommandStartedEvent

from bridge.errors import ServerAway
from bridge.queue.events import Event
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.mongodb import APP_NAME


class Death(CommandListener):
    """Counts down commands. None: it never comes."""

    left: int | None = None

    def started(self, event: CommandStartedEvent) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


def main(sync: str, url: str) -> None:
    from pymongo import MongoClient

    mirror = Mirror(load(Path(sync)))
    death = Death()
    with MongoClient(url, appname=APP_NAME, event_listeners=[death]) as client:
        client.admin.command("ping")
        print("ready", flush=True)
        for line in sys.stdin:
            work = json.loads(line)
            if isinstance(work, dict):
                death.left = work["die_before"]
            else:
                database = client[work[0]]
                for batch in work[1]:
                    events = [Event.parse(text) for text in batch]
                    while True:
                        try:
                            failed = apply(database, mirror, events).failed
                        except ServerAway:
                            continue
                        break
                    assert not failed, failed
            print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
