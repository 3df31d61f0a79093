-- In front of every script: KEYS[1] is the shard's marker, ARGV[1] the data set that the caller means.
local found = redis.call('HGET', KEYS[1], 'id')
if found ~= ARGV[1] then
  return redis.error_reply('DATASET ' .. (found and 'another data set is here' or 'the data set is gone'))
end
local function millis()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
