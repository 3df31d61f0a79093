-- How many leases have not run out. KEYS: marker, leases. ARGV: id.
local running = 0
for _, lease in ipairs(redis.call('HVALS', KEYS[2])) do
  if struct.unpack('>I8I8', lease) > millis() then running = running + 1 end
end
return running
