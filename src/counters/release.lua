-- Gives back. KEYS: one per correction. ARGV: two per correction:
--   window: the bucket it was taken in, and what to add to it (mostly less than nothing)
--   slot:   holder, 'free'

for i, key in ipairs(KEYS) do
  local field, change = ARGV[2 * i - 1], ARGV[2 * i]
  if change == 'free' then
    redis.call('ZREM', key, field)
  else
    local amount = tonumber(redis.call('HGET', key, field))
    -- No such bucket: it has aged out, and its amount with it.
    if amount then
      local corrected = math.max(0, amount + change)
      redis.call('HSET', key, field, corrected)
      redis.call('HINCRBY', key, 's', corrected - amount)
    end
  end
end
return {}
