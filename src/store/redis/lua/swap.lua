-- Replaces records of one hash, and announces, each if it still is what the caller read. A record stands behind the number
-- of its last announcement (8 bytes). Asked a second time with the same record, it answers as it did the first time.
-- KEYS: marker, hash, head, feed, live, due
-- ARGV: id, longest feed, and for each record: field, old, record, due member, due at ('' for ever),
--       mark ('': nothing is announced), entry, live member, live record, live until ('' for ever)
local function announce(seq, mark, entry, member, record, till)
  local number = string.format('%.0f', seq)
  local before = redis.call('HGET', KEYS[3], 'mark') or string.rep('\0', 8)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], number .. '-0', 'm', mark, 'p', before, 'e', entry)
  redis.call('HSET', KEYS[3], 'seq', number, 'mark', mark)
  redis.call('HSET', KEYS[5], member, struct.pack('>I8', seq) .. record)
  if till == '' then
    redis.call('ZREM', KEYS[6], member)
  else
    redis.call('ZADD', KEYS[6], till, member)
  end
end
local function swap(i)
  local field, old, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local kept = redis.call('HGET', KEYS[2], field) or ''
  local seq = 0
  if kept ~= '' then seq = struct.unpack('>I8', kept) end
  if kept ~= '' and string.sub(kept, 9) == record then return {1, seq} end
  if kept ~= old then return {0, 0} end
  if ARGV[i + 5] ~= '' then
    seq = tonumber(redis.call('HGET', KEYS[3], 'seq') or 0) + 1
    announce(seq, ARGV[i + 5], ARGV[i + 6], ARGV[i + 7], ARGV[i + 8], ARGV[i + 9])
  end
  redis.call('HSET', KEYS[2], field, struct.pack('>I8', seq) .. record)
  if ARGV[i + 3] ~= '' then
    if ARGV[i + 4] == '' then
      redis.call('ZREM', KEYS[6], ARGV[i + 3])
    else
      redis.call('ZADD', KEYS[6], ARGV[i + 4], ARGV[i + 3])
    end
  end
  return {1, seq}
end
local answers = {}
for i = 3, #ARGV, 10 do answers[#answers + 1] = swap(i) end
return answers
