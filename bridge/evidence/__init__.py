"""Evidence before a flip: what logs say, and whether Python's answers are the same as PHP's."""
