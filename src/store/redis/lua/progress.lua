-- How far everybody is; drops leases that have run out. KEYS: marker, leases, head. ARGV: id, longest, run.
local all = redis.call('HGETALL', KEYS[2])
local everybody, behind, rest = seq, 0, 0
for i = 1, #all, 2 do
  local till, applied = struct.unpack('>I8I8', all[i + 1])
  if till <= now then
    redis.call('HDEL', KEYS[2], all[i])
  elseif applied < seq then
    behind = behind + 1
    if applied < everybody then everybody = applied end
    if till - now > rest then rest = till - now end
  end
end
if unsure > 0 then
  everybody = 0
  if unsure > rest then rest = unsure end
end
return {everybody, behind, rest}
