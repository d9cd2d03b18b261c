"""The shell on an event loop: how does a request flow without blocking?

It takes the same `Dispatcher` object as a WSGI server does, and gives the same answers: what is
decided is decided by `bridge.proxy.conversation`. Legacy traffic streams without a thread per
request; handlers run on the Dispatcher's bounded threads.
"""
