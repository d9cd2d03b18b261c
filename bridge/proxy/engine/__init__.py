"""The event-loop shell: a gunicorn worker class on uvloop and llhttp.

It takes the same `Dispatcher` object as a WSGI server does, and gives the same answers: what is
decided is decided by `bridge.proxy.conversation`. Legacy traffic streams without a thread per
request; handlers run on the Dispatcher's bounded threads.
"""

from bridge.proxy.serve.engineworker import EngineWorker

__all__ = ["EngineWorker"]
