"""HTTP end to end: raw sockets, a real `bridgectl serve`, and a legacy side that misbehaves."""
