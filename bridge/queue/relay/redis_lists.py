"""Lists that programs fill with LPUSH in the envelope of Kombu's stock Redis transport.

One script moves what is there into the stream of the queue, as it is: an element is on the list
or in the stream, at every moment. What is no envelope is found, and kept, by the consumer.
"""

from __future__ import annotations

import redis

__all__ = ["move"]

MOST_BYTES = 8 * 1024 * 1024
"""One script keeps everybody else waiting, and must not fill a Redis that was nearly full."""

# KEYS: list, stream. ARGV: how many elements at most, how many bytes.
# The entry is added before the element goes: a full Redis refuses the first of the two.
_MOVE = """
local moved, bytes = 0, 0
while moved < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
    local element = redis.call('LINDEX', KEYS[1], -1)
    if not element then break end
    redis.call('XADD', KEYS[2], '*', 'envelope', element)
    redis.call('RPOP', KEYS[1])
    moved = moved + 1
    bytes = bytes + #element
end
return moved
"""


def move(client: redis.Redis, name: str, queue: str, limit: int = 500) -> int:
    """Move up to `limit` elements of the list `name` to the stream `queue`, the oldest first;
    how many. Raises redis.RedisError."""
    return int(client.register_script(_MOVE)(keys=[name, queue], args=[limit, MOST_BYTES]))
