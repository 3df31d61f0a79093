-- Forgets those that are still due; no device that is met anew starts below the floor. Answers how many records went.
-- KEYS: marker, due, devices, consumed, live, documents. ARGV: id, now, floor, members …
if tonumber(ARGV[3]) > tonumber(redis.call('HGET', KEYS[1], 'floor') or 0) then
  redis.call('HSET', KEYS[1], 'floor', ARGV[3])
end
local gone = 0
for i = 4, #ARGV do
  local member = ARGV[i]
  local at = redis.call('ZSCORE', KEYS[2], member)
  if at and tonumber(at) <= tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[2], member)
    local kind = string.sub(member, 1, 1)
    if kind == 'd' then
      gone = gone + redis.call('HDEL', KEYS[3], string.sub(member, 2))
    elseif kind == 'c' then
      gone = gone + redis.call('HDEL', KEYS[4], string.sub(member, 2))
    elseif kind == 'o' then
      gone = gone + redis.call('HDEL', KEYS[6], string.sub(member, 2))
    else
      local went = redis.call('HDEL', KEYS[5], member)
      -- What is announced of a device or of a block goes with its record, which is counted.
      if kind == 's' or kind == 'u' then gone = gone + went end
    end
  end
end
return gone
