"""Which modules are pure, and which files have their unit tests."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PURE", "files_of"]

PURE = (
    "bridge.proxy.backends.servers",
    "bridge.proxy.decision.breaker",
    "bridge.proxy.decision.buckets",
    "bridge.proxy.decision.decide",
    "bridge.proxy.decision.loopguard",
    "bridge.proxy.decision.preview",
    "bridge.proxy.engine.reading",
    "bridge.proxy.http.headers",
    "bridge.proxy.http.wire",
    "bridge.proxy.request.address",
    "bridge.proxy.request.admission",
    "bridge.proxy.request.cookies",
    "bridge.proxy.request.forwarded",
    "bridge.proxy.request.head",
    "bridge.proxy.request.hosts",
    "bridge.proxy.request.superglobals",
    "bridge.proxy.request.target",
    "bridge.proxy.routing.conditions",
    "bridge.proxy.routing.matcher",
    "bridge.proxy.routing.pattern",
    "bridge.queue.events",
    "bridge.queue.relay.plan",
    "bridge.queue.streams.entry",
    "bridge.sync.cache.memory",
    "bridge.sync.checksums",
    "bridge.sync.documents",
    "bridge.sync.guard",
    "bridge.sync.doubts",
    "bridge.sync.gtid",
    "bridge.sync.log.cascades",
    "bridge.sync.log.cells",
    "bridge.sync.log.charsets",
    "bridge.sync.log.format",
    "bridge.sync.log.moments",
    "bridge.sync.log.numbers",
    "bridge.sync.log.position",
    "bridge.sync.log.rows",
    "bridge.sync.log.sizes",
    "bridge.sync.log.statements",
    "bridge.sync.log.stream",
    "bridge.sync.log.tables",
    "bridge.sync.marker",
    "bridge.sync.reached",
    "bridge.sync.tokens",
)


def files_of(module: str) -> tuple[Path, ...]:
    """The files with the unit tests of a module: they lie where their folder is mirrored."""
    _, *folders, name = module.split(".")
    mirrored = Path("tests", *folders, f"test_{name}.py")
    return (mirrored,) if mirrored.exists() else ()
