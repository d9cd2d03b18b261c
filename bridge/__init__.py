"""Move a PHP site to Python one URL at a time, without a visitor noticing.

`bridge.proxy` decides who answers a request and answers it, `bridge.queue` carries change
events from PHP to Python, `bridge.sync` keeps MongoDB equal to the PHP side's database.
"""

__version__ = "0.1.0"
