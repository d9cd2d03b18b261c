"""The engine from the inside: what can only be seen with short limits or no network."""
