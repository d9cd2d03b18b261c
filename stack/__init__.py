"""Real servers for the demo, the tests and the benchmarks.

Every server listens on a private free port of 127.0.0.1, keeps its files in a directory that
the caller gives it, and is stopped by process id. When the process that started it dies, even
by SIGKILL, its servers are killed too (`stack.reaper`). Nothing here is part of the installed
package: a production site runs its own servers.

    with Mongod(directory / "mongodb") as mongodb, Redis(directory / "redis") as redis:
        print(mongodb.url, redis.url)
"""
