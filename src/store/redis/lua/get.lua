-- One record, the time, and below which no new device's epoch may start. KEYS: marker, hash. ARGV: id, field.
local kept = redis.call('HGET', KEYS[2], ARGV[2])
return {kept or '', millis(), tonumber(redis.call('HGET', KEYS[1], 'floor') or 0)}
