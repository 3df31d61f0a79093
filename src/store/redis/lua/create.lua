-- Makes the shard's marker where there is none; answers what stands there then, and whether other keys of a data set do.
-- KEYS: marker, head, users. ARGV: id, format, shards, keys, run.
local made = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
    return redis.error_reply('DATASET the marker is gone, but records are there')
  end
  if ARGV[1] == '' then return {0} end
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'format', ARGV[2], 'shards', ARGV[3], 'keys', ARGV[4])
  redis.call('HSET', KEYS[2], 'run', ARGV[5], 'since', 0)
  made = 1
end
local found = redis.call('HMGET', KEYS[1], 'id', 'format', 'shards', 'keys', 'whole')
return {1, made, found[1], found[2], found[3], found[4], found[5] or ''}
