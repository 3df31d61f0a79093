-- What may be forgotten, with the records of devices. KEYS: marker, due, devices. ARGV: id, now, count.
local members = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
local found = {}
for _, member in ipairs(members) do
  found[#found + 1] = member
  local device = ''
  if string.sub(member, 1, 1) == 'd' then device = redis.call('HGET', KEYS[3], string.sub(member, 2)) or '' end
  found[#found + 1] = device
end
return found
