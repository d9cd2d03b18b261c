"""A process that reads pages through a `Store` and writes down what it got and when.

python -m tests.acceptance.reading_process FILE ENTRIES KEY…

ENTRIES: what its cache holds at most; fewer than keys make it read MongoDB, too. It writes lines
of JSON: begin and end of the read (CLOCK_MONOTONIC, the same for all processes), key, the version
(0 where there is none, null where MongoDB did not answer in time), the version that it had heard
of before it read, and whether memory answered. It ends when it is killed.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from time import monotonic
from typing import IO

from bridge.errors import ServerAway
from bridge.sync.cache.memory import Cache
from bridge.sync.store import Store

PAUSE = 0.004
THREADS = 2


def main(file: str, entries: str, *keys: str) -> None:
    cache = Cache(max_entries=int(entries))
    store = Store(cache=cache, read_preference="nearest")
    lock = threading.Lock()
    with open(file, "w", buffering=1) as stream:
        threads = [
            threading.Thread(target=read_on, args=(store, cache, keys, stream, lock))
            for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def read_on(
    store: Store, cache: Cache, keys: tuple[str, ...], stream: IO[str], lock: threading.Lock
) -> None:
    pause = threading.Event()
    while not pause.wait(PAUSE):
        key = random.choice(keys)
        heard, hits = cache.knows("page", key), cache.hits
        begin = monotonic()
        version: int | None
        try:
            document = store.get("page", key)
            version = 0 if document is None else document["_v"]
        except ServerAway:
            version = None
        line = [begin, monotonic(), key, version, heard, cache.hits > hits]
        with lock:
            stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
