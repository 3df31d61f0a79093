-- Renews a lease, if the replica's place lies in this history.
-- KEYS: marker, leases, head, feed. ARGV: id, replica, applied seq, applied mark, lease in ms, longest, run.
local applied = tonumber(ARGV[3])
if applied > seq then return {0, seq} end
if applied == seq then
  if mark ~= ARGV[4] then return {0, seq} end
elseif applied > 0 then
  local number = string.format('%.0f', applied) .. '-0'
  local entry = redis.call('XRANGE', KEYS[4], number, number)[1]
  if not entry or entry[2][2] ~= ARGV[4] then return {0, seq} end
end
local before = redis.call('HGET', KEYS[2], ARGV[2])
if before then
  local _, said = struct.unpack('>I8I8', before)
  if said > applied then applied = said end
end
redis.call('HSET', KEYS[2], ARGV[2], struct.pack('>I8I8', now + tonumber(ARGV[5]), applied))
return {1, seq}
