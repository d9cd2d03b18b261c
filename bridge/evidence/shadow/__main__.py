"""`python -m bridge.evidence.shadow [PARENT [MEGABYTES]]`; ends with the process PARENT, whose
child it is, and has so much memory at most.

`bridgectl serve` starts it where a route has `shadow:`. Beside another WSGI server it is started
without PARENT, by whoever starts that.
"""

from __future__ import annotations

import os
import signal
import sys

from bridge.evidence.shadow.bounds import bound, yield_to_others


def main() -> None:
    # First of all: also what is imported from here on must not be in the visitors' way.
    yield_to_others()
    # Whoever started us may have ignored them; what is found is written at the end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    import structlog

    from bridge import logs
    from bridge.errors import BridgeError
    from bridge.evidence.shadow.process import Limits, Process
    from bridge.settings import Settings

    logs.configure(once=True)
    log = structlog.get_logger("bridge.shadow")
    parent = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    limits = Limits(memory=int(sys.argv[2]) * 2**20) if len(sys.argv) > 2 else Limits()
    # What grows in a moment is stopped by the kernel, what grows slowly by the process itself.
    bound(limits.memory * 2)
    try:
        why = Process(Settings.from_environ(), parent, limits).run()
    except (BridgeError, OSError) as error:
        why = str(error)
    except KeyboardInterrupt:
        why = ""
    if why and not (parent and os.getppid() != parent):
        log.warning("the shadow ends, and begins anew; visitors do not notice", why=why)
    logs_end()
    os._exit(1 if why else 0)  # threads that hang are not waited for


def logs_end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    main()
