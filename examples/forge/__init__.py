"""A small software forge: `legacy/` is its PHP, `consumer/` its Python side."""
