"""Side-by-side measurements: everything compared runs in one run on one machine."""
