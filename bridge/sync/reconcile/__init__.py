"""Proving that SQL and MongoDB hold the same, and repair; `reconciler` is the whole of it."""
