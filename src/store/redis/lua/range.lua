-- What comes after a place. KEYS: marker, head, feed. ARGV: id, after, count.
local head = tonumber(redis.call('HGET', KEYS[2], 'seq') or 0)
local from = string.format('%.0f', tonumber(ARGV[2]) + 1)
return {head, redis.call('XRANGE', KEYS[3], from .. '-0', '+', 'COUNT', ARGV[3])}
