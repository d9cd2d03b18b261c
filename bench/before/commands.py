"""`bridge` commands one after the other in one process, which waits before each of them.

    python -P commands.py FILE

FILE: a JSON list of `env`, settings, and `words`, what follows `bridge`. What is imported, and
what is made once in the life of a process, is there after the first command, so that the counts
of later ones are those of their work. Before each command it writes the file of the `bridge` that
runs to standard error, and waits for a line; its end is the end of standard input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

__all__: list[str] = []


def main(file: str) -> None:
    """Run the commands; ends with the status of the first that fails."""
    import bridge
    from bridge.cli import main as run

    # All takes fifty times as long here, so a thread's turn does, too: switching is work, and
    # there would be the more of it the busier the machine is.
    sys.setswitchinterval(50 * sys.getswitchinterval())
    for job in json.loads(Path(file).read_text(encoding="utf-8")):
        os.write(2, f"\nnext: {bridge.__file__}\n".encode())
        if not sys.stdin.readline():
            return
        os.environ.update(job["env"])
        sys.argv[1:] = job["words"]
        try:
            run()
        except SystemExit as end:
            if end.code:
                raise
    os.write(2, f"\nnext: {bridge.__file__}\n".encode())
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1])
