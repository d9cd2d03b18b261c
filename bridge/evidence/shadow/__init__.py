"""The shadow: a process beside `bridgectl serve` that compares what visitors ask with Python."""
