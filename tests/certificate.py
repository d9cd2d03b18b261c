"""Certificates for servers of tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from stack.process import find_program

__all__ = ["make_certificate"]


def make_certificate(folder: Path, name: str = "site") -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    certfile, keyfile = folder / f"{name}.crt", folder / f"{name}.key"
    openssl = find_program("openssl", "apt-get install openssl")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}.test"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(keyfile), "-out", str(certfile)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certfile, keyfile
