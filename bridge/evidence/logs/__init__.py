"""Access logs of any web server, read as requests."""
