"""Which broker is it, and how is it spoken to?"""
