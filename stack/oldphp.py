"""PHP of other versions than Debian's, from 5.2.17 to 8.5, as WebAssembly under Node.

The packages are pinned in `stack/node/package.json`; `scripts/setup.sh` installs them into
`.stack/node`. PHP 5.2 there is a 32-bit PHP that reads and writes files but has no sockets; the
others reach a server on 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.errors import BinaryMissing
from stack.process import REPOSITORY

__all__ = ["WITHOUT_SOCKETS", "WITH_SOCKETS", "run_old_php"]

WITHOUT_SOCKETS = ("5.2",)
WITH_SOCKETS = ("7.4", "8.0", "8.5")

PACKAGES = REPOSITORY / ".stack" / "node" / "node_modules"
RUNNER = Path(__file__).with_name("node") / "oldphp.cjs"
OLDEST_NODE = 20
"""Older ones lack what locks files for PHP."""
INSTALL = "scripts/test, which installs it into .stack/node"


def run_old_php(
    version: str,
    script: Path,
    *,
    folders: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    bound: float = 60.0,
) -> str:
    """Run a PHP script once with PHP `version`, for example "5.2"; returns its output.

    It sees the folder of the script and `folders`, and `env` by getenv(); no more.

    Raises BinaryMissing, subprocess.CalledProcessError with the output when the script does not
    exit with 0, and subprocess.TimeoutExpired after `bound` seconds.
    """
    if not (PACKAGES / "@php-wasm" / "node").is_dir():
        raise BinaryMissing(f"PHP {version} (@php-wasm)", INSTALL)
    seen = [str(Path(folder).resolve()) for folder in (script.parent, *folders)]
    done = subprocess.run(
        [_node(), str(RUNNER), version, str(script.resolve()), *dict.fromkeys(seen)],
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "NODE_PATH": str(PACKAGES),
            "OLDPHP_ENV": json.dumps(dict(env or {})),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=bound,
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(
            done.returncode, done.args, done.stdout, done.stdout + done.stderr
        )
    return done.stdout


def _node() -> str:
    """A Node that is new enough: that of PATH, or the one among the packages."""
    if (found := shutil.which("node")) and _major(found) >= OLDEST_NODE:
        return found
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    packaged = PACKAGES / f"node-linux-{machine}" / "bin" / "node"
    if not packaged.exists():
        raise BinaryMissing(f"node {OLDEST_NODE} or newer", INSTALL)
    return str(packaged)


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0
