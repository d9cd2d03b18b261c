"""How does Redis keep a message through any kill?

A Kombu transport on Redis Streams that loses no message when anything is killed.

    import bridge.queue.streams                       # registers the URLs
    Connection("redis+streams://127.0.0.1:6379/0")

Also `rediss+streams://` and `redis+sentinel+streams://`, see `bridge.queue.streams.url`. A queue is
a stream of that name with one consumer group. Direct, topic and fanout exchanges; their bindings
are kept in Redis. Messages come in batches (`_get_many`) and are acknowledged in batches. How no
entry is lost is the business of `bridge.queue.streams.group`.

Transport options: `batch` (messages of one fetch, 100), `batch_bytes` and `largest` (0, see
`bridge.queue.streams.group.Limits`), `global_keyprefix`, `consumer_group` (bridge),
`consumer_name`, `heartbeat`, `reclaim_idle`, `reclaim_every` (seconds, see there),
`socket_timeout`, `socket_connect_timeout` (seconds).

Not offered, and refused with NotOffered: priorities inside a queue (use several queues), a time
to live per message, queues that forget messages or move them by themselves, headers exchanges,
`mandatory`. An auto-delete queue goes with its last consumer; where that one was killed, it stays.
"""

from bridge.queue.streams.transport import Channel, QoS, Transport, register

__all__ = ["Channel", "QoS", "Transport", "register"]
