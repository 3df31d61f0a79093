-- Replaces a record, and announces, if the record still is what the caller read. A record stands behind the number of its
-- last announcement (8 bytes). Asked a second time with the same record, it answers as it did the first time.
-- KEYS: marker, hash, head, feed, live, due
-- ARGV: id, field, old, record, due member, due at ('' for ever),
--       longest feed (0: nothing is announced), mark, entry, live member, live record, live until ('' for ever)
local kept = redis.call('HGET', KEYS[2], ARGV[2]) or ''
if kept ~= '' and string.sub(kept, 9) == ARGV[4] then
  return {1, struct.unpack('>I8', kept)}
end
if kept ~= ARGV[3] then return {0, 0} end
local seq = 0
if kept ~= '' then seq = struct.unpack('>I8', kept) end
if ARGV[7] ~= '0' then
  local head = redis.call('HMGET', KEYS[3], 'seq', 'mark')
  seq = tonumber(head[1] or 0) + 1
  local number = string.format('%.0f', seq)
  local before = head[2] or string.rep('\0', 8)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[7], number .. '-0', 'm', ARGV[8], 'p', before, 'e', ARGV[9])
  redis.call('HSET', KEYS[3], 'seq', number, 'mark', ARGV[8])
  redis.call('HSET', KEYS[5], ARGV[10], struct.pack('>I8', seq) .. ARGV[11])
  if ARGV[12] == '' then
    redis.call('ZREM', KEYS[6], ARGV[10])
  else
    redis.call('ZADD', KEYS[6], ARGV[12], ARGV[10])
  end
end
redis.call('HSET', KEYS[2], ARGV[2], struct.pack('>I8', seq) .. ARGV[4])
if ARGV[5] ~= '' then
  if ARGV[6] == '' then
    redis.call('ZREM', KEYS[6], ARGV[5])
  else
    redis.call('ZADD', KEYS[6], ARGV[6], ARGV[5])
  end
end
return {1, seq}
