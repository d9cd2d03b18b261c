"""What the operator's listener shows of each process: wired from the parts that it has.

Beside `bridgectl serve` the listener is a small process of its own, `python -m bridge.overview`,
which reads what the workers write to the state directory.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from wsgiref.types import WSGIApplication

from werkzeug.wrappers import Request, Response

from bridge import logs
from bridge.cached import Cached
from bridge.errors import BridgeError, ConfigError
from bridge.evidence import standing
from bridge.operator import application, check_address, forget, listen, tell
from bridge.proxy.telemetry import scrape, shadowing, workers
from bridge.queue.ingest import Ingest, PublisherPool
from bridge.queue.status import KEEP
from bridge.queue.status import metrics as queue_metrics
from bridge.settings import Settings
from bridge.sync.log.shown import LogWatch
from bridge.sync.log.shown import metrics as log_metrics
from bridge.sync.reconcile import results as reconciled
from bridge.sync.relay import Sources, queue_status
from bridge.units import several

__all__ = ["whole", "without_mirror"]


def whole(settings: Settings, ends: ExitStack, *, proxy: bool) -> WSGIApplication:
    """The application that shows the queue and the mirror, and takes events for BRIDGE_BROKER_URL;
    with `proxy` also what the workers of `bridgectl serve` write to the state directory. `ends`
    closes what it opens. Raises ConfigError."""
    sources, state_dir = Sources.of(settings), settings.state_dir
    largest = sources.file.max_event
    pool = PublisherPool.of(settings.broker_url, max_event=largest)
    watch = Cached(lambda: queue_status(settings, sources), KEEP)
    last = reconciled.LastWatch(settings)
    ends.callback(pool.close)
    ends.callback(last.close)
    of_log = LogWatch(settings)
    ends.callback(of_log.close)

    def mirror() -> bytes:
        return queue_metrics(watch()) + reconciled.metrics(last()) + log_metrics(of_log())

    compared = Cached(partial(standing.scraped, settings), standing.KEEP)

    def everything() -> bytes:
        return scrape.scrape(state_dir) + workers.metrics(state_dir) + compared() + mirror()

    ingest = Ingest(pool.publish_many, max_event=largest)
    if not proxy:
        return application(
            settings,
            metrics=mirror,
            health=lambda: "; ".join(f"{k}: {v}" for k, v in watch().errors.items()),
            ingest=ingest,
        )
    return application(
        settings,
        metrics=everything,
        health=lambda: _health(state_dir),
        tables=lambda: list(workers.tables(state_dir)),
        routes=lambda: _tables(state_dir),
        ingest=ingest,
    )


def without_mirror(settings: Settings, error: ConfigError) -> WSGIApplication:
    """The same while sync.yaml is broken: what it says of the proxy is needed now."""

    def unusable(request: Request) -> Response:
        return Response("sync.yaml is broken; send the events again later\n", 503)

    says = f"sync.yaml is broken, so the state of the queue is unknown: {error}"
    return application(
        settings,
        metrics=lambda: scrape.scrape(settings.state_dir),
        health=lambda: "\n".join(filter(None, (_health(settings.state_dir), says))),
        routes=lambda: _tables(settings.state_dir),
        ingest=unusable,
    )


def _health(state_dir: Path) -> str:
    found = workers.read_all(state_dir)
    if not found:
        return "no worker runs here"
    wrong = []
    if stopped := [str(worker.pid) for worker in found if worker.stopped]:
        wrong.append(f"stopped, and answering no requests: {', '.join(stopped)}")
    if any(worker.error for worker in found):
        wrong.append("routes.yaml, or a handler that it names, is broken")
    if unwatched := scrape.unwatched(state_dir):
        who = several(unwatched, "worker does", "workers do")
        wrong.append(f"{who} not notice changes of routes.yaml; restart")
    if silent := shadowing.trouble(state_dir):
        wrong.append(silent)
    return "\n".join(wrong)


def _tables(state_dir: Path) -> object:
    return [asdict(worker) for worker in workers.read_all(state_dir)]


def main() -> None:
    """`python -m bridge.overview host:port PARENT`; ends with the process PARENT, whose child
    it is."""
    logs.configure()
    parent = int(sys.argv[2])
    settings = Settings.from_environ()
    try:
        check_address(sys.argv[1], settings.operator_token)
        try:
            app, without = whole(settings, ExitStack(), proxy=True), False
        except ConfigError as error:
            app, without = without_mirror(settings, error), True
        listener = listen(sys.argv[1], app)
    except Exception as error:
        tell(settings.state_dir, str(error) or repr(error))
        if not isinstance(error, BridgeError):
            raise
        sys.exit(1)
    forget(settings.state_dir)

    def watch_parent() -> None:
        """Also ends when sync.yaml was mended: the parent starts another one."""
        while os.getppid() == parent and not (without and _loads(settings)):
            time.sleep(1)
        listener.shutdown()

    threading.Thread(target=watch_parent, daemon=True).start()
    with listener, contextlib.suppress(KeyboardInterrupt):
        listener.serve_forever()


def _loads(settings: Settings) -> bool:
    """Whether sync.yaml is good."""
    try:
        Sources.of(settings)
    except ConfigError:
        return False
    except BridgeError:
        return True  # whoever starts anew says it
    return True


if __name__ == "__main__":
    main()
