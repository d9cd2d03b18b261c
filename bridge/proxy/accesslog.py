"""The access log: one JSON line per response, a plug-in of the dispatcher."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

from bridge.proxy.hooks import Hooks, Outcome

__all__ = ["AccessLog"]


# Made once: json.dumps with separators makes a new encoder for every line.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class AccessLog(Hooks):
    """One JSON line per response. The query is left out: it may hold what is nobody's business.

    Several processes may append to one file: each line is one write.
    """

    def __init__(self, path: str) -> None:
        """`path` is a file to append to, or `-` for standard output."""
        # Kept open for the life of the process; closed by `close` or with the process.
        self._file = sys.stdout.buffer if path == "-" else open(path, "ab", buffering=0)  # noqa: SIM115

    def after_response(self, outcome: Outcome) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": outcome.request_id,
            "client": outcome.client,
            "method": outcome.method,
            "host": outcome.host,
            "path": outcome.path,
            "status": outcome.status,
            "bytes": outcome.sent,
            "ms": round(outcome.seconds * 1000, 2),
            "site": outcome.site,
            "route": outcome.route,
            "backend": outcome.backend,
            "reason": outcome.reason,
            "detail": outcome.detail,
            "generation": outcome.generation,
            "table": outcome.digest,
        }
        for name in ("fallback", "fallback_detail", "freshness", "error", "aborted"):
            if value := getattr(outcome, name):
                record[name] = value
        self._file.write(_encode(record).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not sys.stdout.buffer:
            self._file.close()
