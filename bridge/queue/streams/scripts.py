"""The Lua scripts of `group` and `contents`: what Redis must do as one step and no command
does."""

__all__ = ["CREATE", "FORGET_CONSUMER", "JOIN", "MOVE", "PUT_BACK", "READ_BYTES", "SHOW_LIFE"]

# A full Redis is emptied by consumers alone: what they need to begin and to go on is allowed.

# KEYS: heartbeat key. ARGV: milliseconds.
SHOW_LIFE = """#!lua flags=allow-oom
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
"""

# KEYS: stream. ARGV: group.
CREATE = """#!lua flags=allow-oom
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
"""

# KEYS: stream. ARGV: group, consumer. A consumer that waits for its first entry is one as well.
JOIN = """#!lua flags=allow-oom
return redis.call('XGROUP', 'CREATECONSUMER', KEYS[1], ARGV[1], ARGV[2])
"""

# KEYS: stream. ARGV: group, entry, consumer, how often its delivery is not to be counted.
# What another consumer took over meanwhile is that one's. More fields than Lua passes on at once
# stay where they are, until this consumer is gone.
PUT_BACK = """#!lua flags=allow-oom
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 or #found[1][2] > 7000 then return 0 end
local fields, before = {}, 0
for i = 1, #found[1][2], 2 do
    if found[1][2][i] == 'deliveries' then
        before = tonumber(found[1][2][i + 1]) or 0
    else
        table.insert(fields, found[1][2][i])
        table.insert(fields, found[1][2][i + 1])
    end
end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if #pending == 1 then
    if pending[1][2] ~= ARGV[3] then return 0 end
    before = before + pending[1][4] - tonumber(ARGV[4])
end
if before > 0 then
    table.insert(fields, 'deliveries')
    table.insert(fields, tostring(before))
end
redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""

# KEYS: streams. ARGV: group, consumer, how many entries of each, how many bytes of all.
# As XREADGROUP replies, and no more than one entry beyond the bytes: one alone must come, too.
READ_BYTES = """#!lua flags=allow-oom
local reply, bytes = {}, 0
for _, key in ipairs(KEYS) do
    local entries = {}
    while #entries < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
        local found = redis.call(
            'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', key, '>')
        if not found then break end
        local entry = found[1][2][1]
        for _, field in ipairs(entry[2]) do bytes = bytes + #field end
        table.insert(entries, entry)
    end
    if #entries > 0 then table.insert(reply, {key, entries}) end
end
return reply
"""

# KEYS: stream, heartbeat key of the consumer. ARGV: group, consumer.
# As one step: a consumer that wakes up between a look and the deletion would read entries that
# the deletion then takes out of the pending list, and nobody would ever see them again.
FORGET_CONSUMER = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #pending > 0 then return 0 end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) + 1
"""

# KEYS: list, stream. ARGV: how many elements at most, how many bytes.
# The entry is added before the element goes: a full Redis refuses the first of the two.
MOVE = """
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
