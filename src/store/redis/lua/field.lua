-- A field of the marker. ARGV: id, field.
return redis.call('HGET', KEYS[1], ARGV[2]) or ''
