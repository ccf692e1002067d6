-- What pods have told of deployments. The board is a hash: 'r:' .. pod -> that pod's row, 't:' .. deployment -> the sum over all
-- rows. A row is { at, half-life, { deployment -> figures } }. Figures are seven numbers: attempts in flight, requests, tokens, then
-- a sum and a count of milliseconds per token, and of milliseconds to the first token. The last four fade with the half-life from
-- the time they were told at; a total has that time as an eighth number.

local fading = 3

local function decay(from, to, half)
  return 2 ^ (-math.max(0, to - from) / half)
end

-- What becomes of the totals when `figures` take the place of `old` ones.
local function changes_between(old, figures, factor)
  local changes = {}
  for deployment, numbers in pairs(figures) do
    changes[deployment] = { unpack(numbers) }
  end
  for deployment, numbers in pairs(old) do
    local change = changes[deployment] or { 0, 0, 0, 0, 0, 0, 0 }
    local is_real = false
    for i, number in ipairs(numbers) do
      change[i] = change[i] - number * (i > fading and factor or 1)
      if math.abs(change[i]) > 1e-6 then is_real = true end
    end
    changes[deployment] = is_real and change or nil
  end
  return changes
end

local function apply(board, changes, now, half)
  local fields, deltas = {}, {}
  for deployment, change in pairs(changes) do
    fields[#fields + 1] = 't:' .. deployment
    deltas[#deltas + 1] = change
  end
  if #fields == 0 then return end
  local written, dropped = {}, {}
  for n, stored in ipairs(redis.call('HMGET', board, unpack(fields))) do
    local total = stored and cjson.decode(stored) or { 0, 0, 0, 0, 0, 0, 0, now }
    local factor, weight = decay(total[8], now, half), 0
    for i = 1, 7 do
      total[i] = math.max(0, total[i] * (i > fading and factor or 1) + deltas[n][i])
      weight = weight + total[i]
    end
    total[8] = math.max(now, total[8])
    if weight < 0.001 then
      dropped[#dropped + 1] = fields[n]
    else
      written[#written + 1] = fields[n]
      written[#written + 1] = cjson.encode(total)
    end
  end
  if #written > 0 then redis.call('HSET', board, unpack(written)) end
  if #dropped > 0 then redis.call('HDEL', board, unpack(dropped)) end
end

-- A pod's figures take the place of what it told before.
local function replace_row(board, pod, figures, now, half)
  local stored = redis.call('HGET', board, 'r:' .. pod)
  local old = stored and cjson.decode(stored) or { now, half, {} }
  apply(board, changes_between(old[3], figures, decay(old[1], now, old[2])), now, half)
  if next(figures) then
    redis.call('HSET', board, 'r:' .. pod, cjson.encode({ now, half, figures }))
  elseif stored then
    redis.call('HDEL', board, 'r:' .. pod)
  end
end

-- A pod is gone, and with it what it told.
local function remove_row(board, pod, now)
  local stored = redis.call('HGET', board, 'r:' .. pod)
  if stored then replace_row(board, pod, {}, now, cjson.decode(stored)[2]) end
end

local function bury_the_dead(pods, board, now)
  local dead = redis.call('ZRANGEBYSCORE', pods, '-inf', now)
  for _, pod in ipairs(dead) do remove_row(board, pod, now) end
  if #dead > 0 then redis.call('ZREMRANGEBYSCORE', pods, '-inf', now) end
end
