"""How do processes start, follow and end?"""
