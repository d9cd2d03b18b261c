"""The in-memory cache of each process, and what keeps it in step with MongoDB.

`memory` is the cache itself and knows no server, `follow` reads MongoDB's change stream for it.
What handlers call is `bridge.sync.Store`.
"""

from bridge.sync.cache.follower import Follower
from bridge.sync.cache.memory import Cache, CacheEntry, Change, Fill, Slot, Stats

__all__ = ["Cache", "CacheEntry", "Change", "Fill", "Follower", "Slot", "Stats"]
