"""How does what was committed get to the queue?"""
