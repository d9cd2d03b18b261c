"""The shell that blocks: a WSGI application."""
