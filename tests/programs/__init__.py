"""Real PHP programs edit their own tables, and the mirror holds what these hold."""
