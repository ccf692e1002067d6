-- Keeps slots. KEYS: one per slot. ARGV: two per slot: holder, ttlMs.
-- A slot that is gone (expired while the store was out of reach, or flushed) comes back: its holder does hold it.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  local holder, ttl = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  redis.call('ZADD', key, now + ttl, holder)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end
return {}
