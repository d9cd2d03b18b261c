"""Turn into a server, after having told the reaper about it.

Run as a script: `python launch.py FD PROGRAM ARGUMENT…`. It writes its process id to FD, the
reaper's pipe, before the program starts: there is no moment at which the server runs and the
reaper does not know it. The process id stays the same through exec.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Register, close the pipe on exec, exec. Exits with status 127 if that fails."""
    reaper, command = int(sys.argv[1]), sys.argv[2:]
    os.write(reaper, b"+%d\n" % os.getpid())
    os.set_inheritable(reaper, False)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
