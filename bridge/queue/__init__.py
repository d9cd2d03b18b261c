"""Carry change events from PHP to Python.

`events` is what an event is; `broker.publisher` and `consumer` are its two ends in Python,
`consumer.dead_letters` is where messages go that nobody can use. The PHP end is
`php/BridgeProducer.php`. What an event does to MongoDB is the business of `bridge.sync`.
"""
