"""How is a handler run?"""
