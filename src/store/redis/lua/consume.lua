-- Marks what happens once; the caller's token tells its own second question from somebody else's.
-- KEYS: marker, consumed, due. ARGV: id, field, token, due member, due at.
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 1 then
  redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
  return 1
end
if redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3] then return 1 end
return 0
