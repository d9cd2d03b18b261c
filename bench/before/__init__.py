"""`python -m bench NAME --against COMMIT`: another commit of the repository beside this one.

What it takes: `against` puts it together, `checkout` has the other commit, `turns` and `side` run
the benchmark on both sides, `counts`, `programs`, `commands` and `callgrind` count instructions,
`ratios` says what it means.
"""

__all__ = ["COMPARABLE"]

COMPARABLE = ("dispatcher", "engine", "queue", "sync")
"""The benchmarks that measure speed, and so can be compared with another commit."""
