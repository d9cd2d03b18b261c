"""Carry a change event from PHP to Python."""
