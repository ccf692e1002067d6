-- A pod says that it lives. KEYS: the set of pods, the board. ARGV: the pod, and how long it counts as alive without saying so
-- again, in ms; 0: it leaves. Reply: how many are alive.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[2])
bury_the_dead(KEYS[1], KEYS[2], now)
if ttl > 0 then
  redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ttl)
else
  redis.call('ZREM', KEYS[1], ARGV[1])
  remove_row(KEYS[2], ARGV[1], now)
end
return redis.call('ZCARD', KEYS[1])
