"""Copies of what visitors asked and legacy answered, for the process that compares (the shadow)."""
