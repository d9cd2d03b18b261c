"""The files in deploy/, run as they are shipped: only paths and ports are others."""
