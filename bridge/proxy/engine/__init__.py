"""The shell on an event loop: how does a request flow without blocking?

It gives the same answers as the WSGI shell: what is decided is decided by
`bridge.proxy.conversation`. Legacy traffic streams without a thread per request; handlers run on
a bounded number of threads.
"""
