-- Marks what happens once; the caller's token tells its own second question from somebody else's. 1 for each that was marked.
-- KEYS: marker, consumed, due. ARGV: id, and for each: field, token, due member, due at.
local answers = {}
for i = 2, #ARGV, 4 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('ZADD', KEYS[3], ARGV[i + 3], ARGV[i + 2])
    answers[#answers + 1] = 1
  elseif redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
