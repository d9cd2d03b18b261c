"""Both sides are asked for the requests of a log, or for addresses, and their answers compared."""
