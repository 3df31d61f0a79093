-- Sets a field of the marker if it still is what the caller read. ARGV: id, field, old, new.
local kept = redis.call('HGET', KEYS[1], ARGV[2]) or ''
if kept ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return 1
