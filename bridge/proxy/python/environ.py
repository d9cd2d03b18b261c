"""The WSGI environment of a handler, whichever shell runs it. Pure."""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from bridge.proxy.request.forwarded import Client
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.request.hosts import split_host
from bridge.proxy.request.memory import remember

__all__ = ["NOT_HEADERS", "caller_keys", "environ_for_handler", "header_keys", "target_keys"]

NOT_HEADERS = frozenset(("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"))
"""Of a WSGI environment: these two have keys of their own."""


@remember(4096, 64)
def _key(name: str) -> str:
    return f"HTTP_{name.upper().replace('-', '_')}"


def environ_for_handler(
    environ: WSGIEnvironment,
    head: Head,
    headers: Headers,
    client: Client,
    mount: str,
    stream: object,
) -> WSGIEnvironment:
    """The environment of a handler: the server's, with the visitor's own address and scheme, and
    the decoded path that the route was decided on.

    headers: those that legacy would get.
    mount: the beginning of the path that is SCRIPT_NAME.
    stream: the body.
    """
    kept = {key: value for key, value in environ.items() if not key.startswith("HTTP_")}
    return {
        **kept,
        **header_keys(headers),
        **caller_keys(head, client),
        **target_keys(head, mount),
        "wsgi.input": stream,
    }


def header_keys(headers: Headers) -> dict[str, str]:
    """The keys of a handler's environment that are headers; several lines are one list."""
    keys: dict[str, str] = {}
    for name, value in headers:
        key = _key(name)
        if key not in NOT_HEADERS:
            keys[key] = f"{keys[key]},{value}" if key in keys else value
    return keys


def caller_keys(head: Head, client: Client) -> dict[str, str]:
    """The keys of a handler's environment that say who asks, and whom."""
    host, port = split_host(head.host) or (head.host, "")
    return {
        "HTTP_HOST": head.host,
        "REMOTE_ADDR": client.address,
        "SERVER_NAME": host,
        "SERVER_PORT": port or ("443" if client.scheme == "https" else "80"),
        "wsgi.url_scheme": client.scheme,
    }


def target_keys(head: Head, mount: str) -> dict[str, str]:
    """The keys of a handler's environment that say what is asked for."""
    path = (head.target.path or "/").encode().decode("latin-1")
    return {
        "SCRIPT_NAME": mount,
        "PATH_INFO": path[len(mount.encode()) :],
        "QUERY_STRING": head.target.query,
    }
