"""Logs of one JSON object a line: nginx's, Apache's and Caddy's as people write them, and the
bridge's own. The keys are guessed from what is usual.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bridge.evidence.logs.entry import FIELDS

__all__ = ["read_line"]

_KEYS = {
    "client": ("client", "client_ip", "remote_addr", "remote_ip", "clientip", "remote_host", "ip"),
    "user": ("user", "remote_user", "user_id"),
    "time": ("time", "ts", "timestamp", "@timestamp", "time_iso8601", "time_local", "msec"),
    "status": ("status", "status_code", "response_code", "code"),
    "bytes": ("bytes", "size", "body_bytes_sent", "bytes_sent", "response_size", "bytessent"),
    "referer": ("referer", "referrer", "http_referer"),
    "agent": ("agent", "user_agent", "http_user_agent", "useragent"),
    "host": ("host", "http_host", "vhost", "server_name", "virtualhost"),
    "cookie": ("set_cookie", "sent_http_set_cookie"),
    "method": ("method", "request_method", "verb"),
    "target": ("target", "uri", "request_uri", "url", "path"),
    "query": ("query", "args", "query_string"),
}
_TIMES = (
    ("seconds", 1.0), ("request_time", 1.0), ("duration", 1.0), ("ms", 1e-3), ("duration_ms", 1e-3),
    ("response_time", 1.0), ("request_time_us", 1e-6),
)  # fmt: skip
_OURS = ("request_id", "backend", "route", "reason", "table")


def _one(value: object) -> str:
    """As text of Latin-1, byte for byte; `-` is kept for what is null."""
    if isinstance(value, list):
        value = value[0] if value else ""
    text = "" if value is None else value if isinstance(value, str) else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("latin-1")


def _found(data: Mapping[str, Any], name: str) -> object:
    return next((data[key] for key in _KEYS[name] if key in data), None)


def read_line(line: str) -> tuple[Any, ...] | None:
    """The row of a line (Latin-1 text), in the order of FIELDS; None for what is no request."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        text = line if line.isascii() else line.encode("latin-1").decode("utf-8", "replace")
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    ours = data if all(isinstance(data.get(key), str) for key in _OURS) else None
    if ours is not None and not isinstance(data.get("site", ""), str):
        ours = None
    known = {str(key).lower().replace("-", "_"): value for key, value in data.items()}
    inner = known.get("request")
    if isinstance(inner, dict):  # Caddy's
        headers = inner.get("headers")
        known |= {str(key).lower().replace("-", "_"): value for key, value in inner.items()}
        if isinstance(headers, dict):
            known |= {str(key).lower().replace("-", "_"): value for key, value in headers.items()}
        answered = known.get("resp_headers")
        if isinstance(answered, dict):
            named = {str(key).lower(): value for key, value in answered.items()}
            known["set_cookie"] = named.get("set-cookie", "")
        inner = None
    request = _one(inner) if isinstance(inner, str) else _request(known)
    status = _found(known, "status")
    if (not request and ours is None) or status is None or isinstance(status, dict):
        return None
    row: dict[str, Any] = {
        name: _one(_found(known, name)) for name in FIELDS if name in _KEYS and name != "cookie"
    }
    cookie = _found(known, "cookie")
    row |= {"request": request, "seconds": _seconds(known), "ours": ours}
    row["cookie"] = None if cookie is None else _one(cookie)
    return tuple(row[name] for name in FIELDS)


def _request(data: Mapping[str, Any]) -> str:
    target, query = _one(_found(data, "target")), _one(_found(data, "query"))
    if query and "?" not in target:
        target = f"{target}?{query.removeprefix('?')}"
    method = _one(_found(data, "method"))
    return f"{method} {target}" if method else target


def _seconds(data: Mapping[str, Any]) -> str:
    for key, scale in _TIMES:
        if key in data:
            try:
                return repr(float(data[key]) * scale)
            except (TypeError, ValueError, OverflowError):
                return ""
    return ""
