-- The place of the last announcement. KEYS: marker, head. ARGV: id.
local head = redis.call('HMGET', KEYS[2], 'seq', 'mark')
return {tonumber(head[1] or 0), head[2] or ''}
