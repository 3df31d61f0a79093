-- Behind the prelude, for scripts about leases. A server that is another run than the one before may have forgotten
-- leases in which their holders still believe: for the longest lease it cannot be said who has applied what.
-- KEYS[2]: leases, KEYS[3]: head; the last two of ARGV: the longest lease in ms, the run.
local now = millis()
local longest, run = tonumber(ARGV[#ARGV - 1]), ARGV[#ARGV]
local known = redis.call('HMGET', KEYS[3], 'run', 'since', 'seq', 'mark', 'longest')
local since = tonumber(known[2] or now)
if longest > tonumber(known[5] or 0) then
  redis.call('HSET', KEYS[3], 'longest', longest)
else
  longest = tonumber(known[5])
end
if known[1] ~= run then
  since = now
  redis.call('HSET', KEYS[3], 'run', run, 'since', string.format('%.0f', since))
end
local unsure = since + longest - now
local seq, mark = tonumber(known[3] or 0), known[4] or string.rep('\0', 8)
