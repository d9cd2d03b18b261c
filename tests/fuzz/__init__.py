"""Coverage-guided fuzzing; the short form is the property tests of `tests/proxy/engine`."""
