"""One benchmark of one checkout, as a program that waits for its turn before each part.

    python -P side.py NAME FOLDER ROUNDS SECONDS

It runs in the checkout that is measured and knows nothing of it but what every commit has:
`bench.NAME.run`, which tells its progress before each part. There it stops: it writes a line and
goes on when it gets one. So two of these take turns, and a slow minute of the machine hits both.
The end of standard input is the end of the program, which stops its servers.

Lines on standard output are JSON objects: `runs`, the files of the modules; `next`, what comes
next; at the end `figures` and `ratios`, or `failed`, what the benchmark said.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

__all__: list[str] = []


class _Turns(Console):
    """What a benchmark takes for a terminal that shows its progress."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(file=sys.stderr)
        self._out = out

    def print(self, *objects: Any, **options: Any) -> None:
        _tell(self._out, {"next": " ".join(map(str, objects))})
        if not sys.stdin.readline():
            raise SystemExit("nobody waits for the result any more")


def _tell(out: TextIO, what: dict[str, Any]) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


def main(name: str, folder: str, rounds: str, seconds: str) -> None:
    """Run the benchmark; its failures are told, all others are tracebacks."""
    # What else writes to standard output must not come between the lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import bench.report
    import bridge
    import stack.errors

    modules = {"bench": bench.report, "bridge": bridge, "stack": stack.errors}
    _tell(out, {"runs": {name: str(module.__file__) for name, module in modules.items()}})
    benchmark = importlib.import_module(f"bench.{name}")
    # Older commits have it elsewhere.
    place = "report" if hasattr(bench.report, "BenchmarkFailed") else "load"
    failed = importlib.import_module(f"bench.{place}").BenchmarkFailed
    try:
        report = benchmark.run(Path(folder), int(rounds), int(seconds), _Turns(out))
    except (failed, stack.errors.StackError) as error:
        _tell(out, {"failed": str(error)})
        return
    _tell(out, {"figures": report.figures, "ratios": report.ratios})


if __name__ == "__main__":
    main(*sys.argv[1:])
