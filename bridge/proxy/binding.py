"""What `bridge serve` listens with, tried before a worker would fail over it: addresses, and the
certificate of TLS."""

from __future__ import annotations

import os
import socket
import ssl

from gunicorn import util

from bridge.errors import BridgeError

__all__ = ["check_addresses", "check_certificate"]


def check_addresses(bind: tuple[str, ...]) -> None:
    """Try to listen on each address; gunicorn would try for five seconds and then exit.

    Raises BridgeError.
    """
    if {"LISTEN_FDS", "GUNICORN_FD"} & os.environ.keys():
        return  # the sockets were handed to us
    for text in bind:
        try:
            address = util.parse_address(text)
        except RuntimeError as error:
            raise BridgeError(f"--bind {text}: {error}; write host:port or unix:/path") from None
        if not isinstance(address, tuple):
            continue  # a unix socket, which gunicorn replaces
        family = socket.AF_INET6 if util.is_ipv6(address[0]) else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise BridgeError(
                    f"cannot listen on {text}: {error.strerror}; "
                    "stop what listens there (`ss -ltnp` shows it), or choose another --bind"
                ) from None


def check_certificate(certfile: str, keyfile: str) -> None:
    """Read certificate and key, which each worker would fail to do. Raises BridgeError."""
    if keyfile and not certfile:
        raise BridgeError("--keyfile needs --certfile, the certificate of that key")
    if not certfile:
        return
    files = " and ".join(filter(None, (certfile, keyfile)))
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certfile, keyfile or None, _no_password)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise BridgeError(
            f"cannot use the certificate in {files}: {reason}; "
            "both must be PEM, without a password, and belong together"
        ) from None


def _no_password() -> str:
    raise OSError("the key has a password")
