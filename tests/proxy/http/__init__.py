"""HTTP end to end: raw sockets, a real `bridge serve`, and a legacy side that misbehaves."""
