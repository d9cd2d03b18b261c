"""Access logs of any web server, read as requests."""

from bridge.evidence.logs.entry import Entry
from bridge.evidence.logs.reader import Batch, Reader, entries

__all__ = ["Batch", "Entry", "Reader", "entries"]
