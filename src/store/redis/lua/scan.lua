-- Some records of a hash. KEYS: marker, hash. ARGV: id, cursor, count.
return redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
