-- Gives back what the first `count` of KEYS say, with two of ARGV for each after the first `skipped`:
--   window: the bucket it was taken in, and what to add to it (mostly less than nothing)
--   slot:   holder, 'free'

local function give_back(count, skipped)
  for i = 1, count do
    local key, field, change = KEYS[i], ARGV[skipped + 2 * i - 1], ARGV[skipped + 2 * i]
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
end
