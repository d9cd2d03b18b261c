"""What `bridgectl serve` listens with, tried before a worker would fail over it: addresses, and the
certificate of TLS."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import stat
import time
from pathlib import Path

from gunicorn import util
from werkzeug.wrappers import Response

from bridge.errors import BridgeError, WrongUsage
from bridge.listener import Listener, advice
from bridge.operator import cannot_listen, split_address

__all__ = ["check_addresses", "check_certificate", "check_operator"]

_PORT = re.compile(r"(?:tcp://)?(?:\[[^][]*\]|[^][:/]*):([0-9]{1,9})")
_DESCRIPTOR = re.compile(r"fd://[0-9]+")
_LONGEST_PATH = 107  # bytes of a unix socket's path, unix(7)

_GONE_WITHIN = 3.0  # seconds; a listener whose parent was killed looks for it every second


def check_addresses(bind: tuple[str, ...]) -> None:
    """Try to listen on each address; gunicorn would try for five seconds and then exit. Raises
    BridgeError, and WrongUsage for what is no address."""
    if {"LISTEN_FDS", "GUNICORN_FD"} & os.environ.keys():
        return  # the sockets were handed to us
    for text in bind:
        if text.startswith("unix:"):
            _check_path(text, util.parse_address(text))
        elif not _DESCRIPTOR.fullmatch(text):
            _check_port(text)


def _check_port(text: str) -> None:
    found = _PORT.fullmatch(text)
    if not found:
        example = f"127.0.0.1:{text}" if text.isdecimal() else "127.0.0.1:8080"
        raise WrongUsage(
            f"--bind {text} is no address; write host:port ({example}, [::1]:8080) or unix:/path"
        )
    if int(found[1]) > 65535:
        raise WrongUsage(f"--bind {text}: there are ports up to 65535 only")
    address = util.parse_address(text)
    family = socket.AF_INET6 if util.is_ipv6(address[0]) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            do = advice(error, "--bind")
            raise BridgeError(f"cannot listen on {text}: {error.strerror}; {do}") from None


def _check_path(text: str, name: str) -> None:
    """gunicorn makes the socket anew, and replaces one that is there."""
    path = Path(name)
    if not name:
        raise WrongUsage(f"--bind {text}: the path is missing; write unix:/path")
    if len(os.fsencode(name)) > _LONGEST_PATH:
        raise WrongUsage(
            f"--bind {text}: the path has more than {_LONGEST_PATH} bytes, choose a shorter one"
        )
    if not path.parent.is_dir():
        wrong = f"there is no folder {path.parent}; make it, for the user of `bridgectl serve`"
    elif not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        wrong = f"this user may not write to {path.parent}"
    elif os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
        wrong = "there is something that is no socket; remove it, or choose another path"
    else:
        return
    raise BridgeError(f"cannot listen on {text}: {wrong}")


def check_certificate(certfile: str, keyfile: str) -> None:
    """Read certificate and key, which each worker would fail to do. Raises BridgeError."""
    if keyfile and not certfile:
        raise WrongUsage("--keyfile needs --certfile, the certificate of that key")
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


def check_operator(address: str, bind: tuple[str, ...]) -> None:
    """Try to listen on `address`, before `bridgectl serve` starts anything; `bind` is what it
    listens on for visitors. Raises BridgeError."""
    until = time.monotonic() + _GONE_WITHIN
    while True:
        try:
            listener = Listener(*split_address(address), Response())
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise cannot_listen(address, error) from None
        time.sleep(0.05)
    with listener:
        try:
            check_addresses(bind)
        except BridgeError:
            raise BridgeError(
                f"--operator {address} is where --bind listens for visitors; choose another port"
            ) from None
