"""What visitors ask of legacy is asked of Python too, aside, and the answers are compared."""
