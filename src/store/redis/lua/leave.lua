-- Gives a lease up. KEYS: marker, leases. ARGV: id, replica.
redis.call('HDEL', KEYS[2], ARGV[2])
return 1
