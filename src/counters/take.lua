-- Decides takes in the order given, each all or nothing: its claims, and the first of its alternatives that fits with them.
--
-- KEYS: one per thing that is given back before, then one per claim. ARGV: the number of the former, what give-back.lua says of
-- each, then per take the number of its alternatives, then its list of claims and each alternative's. A list is
-- the number of its claims, then each claim in four words:
--   window: amount ceiling windowMs bucket-widthMs
--   slot:   holder ceiling ttlMs 0
-- Reply: the server's time in ms, then per take: the refused claim's number (0: none), retryAfterMs, and what remains of each
-- claim. If there are alternatives and no claim was refused, also: the chosen one's number and what remains of its claims; or 0,
-- and each alternative's refused claim and retryAfterMs.
--
-- A window is a hash: bucket number -> amount, s -> sum of all buckets, h -> oldest bucket. A bucket is counted in full until
-- its youngest entry is older than the window. Slots are a sorted set: holder -> when it expires.

-- How many of KEYS and of ARGV have been read.
local keys = tonumber(ARGV[1])
local args = 1 + 2 * keys
give_back(keys, 1)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Each key is read once and written once, however many takes ask for it.
local meters = {}

local function evict(window, oldest)
  local aged = {}
  for bucket = window.head, oldest - 1 do aged[#aged + 1] = bucket end
  for _, amount in ipairs(redis.call('HMGET', window.key, unpack(aged))) do
    window.used = window.used - (tonumber(amount) or 0)
  end
  window.head = oldest
  redis.call('HDEL', window.key, unpack(aged))
  redis.call('HSET', window.key, 's', window.used, 'h', oldest)
end

local function open_window(key, span, width)
  local bucket = math.floor(now / width)
  local stored = redis.call('HMGET', key, 's', 'h', bucket)
  local head = tonumber(stored[2]) or bucket
  -- The server's clock was set back by more than the window: what it counted then says nothing about now.
  if head > bucket + span / width then
    redis.call('DEL', key)
    stored, head = {}, bucket
  end
  local window = {
    key = key, span = span, width = width, bucket = bucket,
    used = tonumber(stored[1]) or 0, head = math.min(head, bucket),
    amount = tonumber(stored[3]) or 0, isNewBucket = not stored[3], granted = 0,
  }
  local oldest = math.floor((now - span) / width)
  if window.head < oldest then evict(window, oldest) end
  return window
end

local function open_slots(key, ttl)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return { key = key, span = ttl, used = redis.call('ZCARD', key), granted = 0, entries = {} }
end

-- How long until `excess` has aged out of a window.
local function window_wait(window, excess)
  if not window.amounts then
    local buckets = {}
    for bucket = window.head, window.bucket do buckets[#buckets + 1] = bucket end
    window.amounts = redis.call('HMGET', window.key, unpack(buckets))
  end
  local wait = 0
  for i, stored in ipairs(window.amounts) do
    local bucket = window.head + i - 1
    excess = excess - (bucket == window.bucket and window.amount or tonumber(stored) or 0)
    wait = (bucket + 1) * window.width + window.span - now
    if excess <= 0 then return wait end
  end
  return window.span
end

-- Nobody knows when a slot is given back; a dead holder's goes at its expiry.
local function slot_wait(slots)
  local first = redis.call('ZRANGE', slots.key, 0, 0, 'WITHSCORES')
  return math.min(first[2] and first[2] - now or slots.span, 1000)
end

local function wait_for(meter, amount, ceiling)
  if amount > ceiling or ceiling <= 0 then return meter.span end
  if meter.entries then return slot_wait(meter) end
  return window_wait(meter, meter.used + amount - ceiling)
end

-- Reads a list of claims and counts them at once, so that a second claim on the same key sees the first; what is not granted in
-- the end is forgotten.
local function ask()
  local list = { refused = 0, wait = 0 }
  local count = tonumber(ARGV[args + 1])
  args = args + 1
  for i = 1, count do
    local key = KEYS[keys + i]
    local first, ceiling, span, width = string.match(ARGV[args + i], '^(%S+) (%d+) (%d+) (%d+)$')
    ceiling, span, width = tonumber(ceiling), tonumber(span), tonumber(width)
    local meter = meters[key] or (width > 0 and open_window(key, span, width) or open_slots(key, span))
    meters[key] = meter
    local amount = width > 0 and tonumber(first) or 1
    if ceiling <= 0 or meter.used + amount > ceiling then
      if list.refused == 0 then list.refused = i end
      list.wait = math.max(list.wait, wait_for(meter, amount, ceiling), 1)
    end
    meter.used = meter.used + amount
    list[i] = { meter = meter, amount = amount, ceiling = ceiling, holder = first }
  end
  keys, args = keys + count, args + count
  return list
end

local function skip()
  local count = tonumber(ARGV[args + 1])
  keys, args = keys + count, args + 1 + count
end

local function forget(list)
  for _, claim in ipairs(list) do claim.meter.used = claim.meter.used - claim.amount end
end

local function grant(list)
  for _, claim in ipairs(list) do
    local meter = claim.meter
    meter.granted = meter.granted + 1
    if meter.entries then
      table.insert(meter.entries, now + meter.span)
      table.insert(meter.entries, claim.holder)
    else
      meter.amount = meter.amount + claim.amount
    end
  end
end

local reply = { now }

local function tell_remaining(list)
  for _, claim in ipairs(list) do reply[#reply + 1] = math.max(0, claim.ceiling - claim.meter.used) end
end

while args < #ARGV do
  local count = tonumber(ARGV[args + 1])
  args = args + 1
  local claims = ask()
  local chosen, chosen_number, full = nil, 0, {}
  for number = 1, count do
    if claims.refused > 0 or chosen then
      skip()
    else
      local alternative = ask()
      if alternative.refused == 0 then
        chosen, chosen_number = alternative, number
      else
        forget(alternative)
        full[#full + 1] = alternative
      end
    end
  end
  if claims.refused > 0 or (count > 0 and not chosen) then
    forget(claims)
  else
    grant(claims)
    if chosen then grant(chosen) end
  end
  reply[#reply + 1] = claims.refused
  reply[#reply + 1] = claims.wait
  tell_remaining(claims)
  if count > 0 and claims.refused == 0 then
    reply[#reply + 1] = chosen_number
    if chosen then
      tell_remaining(chosen)
    else
      for _, alternative in ipairs(full) do
        reply[#reply + 1] = alternative.refused
        reply[#reply + 1] = alternative.wait
      end
    end
  end
end

for key, meter in pairs(meters) do
  if meter.granted > 0 then
    if meter.entries then
      redis.call('ZADD', key, unpack(meter.entries))
      if redis.call('PTTL', key) < meter.span then redis.call('PEXPIRE', key, meter.span) end
    else
      redis.call('HSET', key, 's', meter.used, 'h', meter.head, meter.bucket, meter.amount)
      if meter.isNewBucket then redis.call('PEXPIRE', key, meter.span + 2 * meter.width) end
    end
  end
end
return reply
