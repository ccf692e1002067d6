-- A pod tells what it knows of deployments and reads what all know. KEYS: the set of live pods, the board, what cools.
-- ARGV: the pod; how long it counts as alive, in ms; the half-life of times, in ms; how long a cooling is known after its end, in ms;
-- the pod's figures as JSON, by deployment; coolings as JSON: { deployment, for how many ms, code, status } each; the deployments that
-- have recovered as a JSON array; then the deployments it asks about.
-- Reply: JSON: the totals in that order, false where there is none, and the coolings, as they were sent.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pods, board, cooling = KEYS[1], KEYS[2], KEYS[3]
local pod, ttl, half, probation = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

bury_the_dead(pods, board, now)
-- Whoever tells something lives.
redis.call('ZADD', pods, now + ttl, pod)
if redis.call('PTTL', pods) < ttl then redis.call('PEXPIRE', pods, ttl) end
replace_row(board, pod, cjson.decode(ARGV[5]), now, half)
redis.call('PEXPIRE', board, 10 * half)

for _, deployment in ipairs(cjson.decode(ARGV[7])) do redis.call('HDEL', cooling, deployment) end
for _, told in ipairs(cjson.decode(ARGV[6])) do
  local deployment, ends = told[1], now + told[2]
  local known = redis.call('HGET', cooling, deployment)
  if not known or cjson.decode(known)[1] < ends then
    redis.call('HSET', cooling, deployment, cjson.encode({ ends, told[3], told[4] }))
    redis.call('PEXPIRE', cooling, probation + told[2])
  end
end

local totals, fields = {}, {}
for i = 8, #ARGV do fields[#fields + 1] = 't:' .. ARGV[i] end
for n, stored in ipairs(#fields > 0 and redis.call('HMGET', board, unpack(fields)) or {}) do
  local total = stored and cjson.decode(stored)
  if total then
    local factor = decay(total[8], now, half)
    for i = fading + 1, 7 do total[i] = total[i] * factor end
  end
  totals[n] = total
end
local cools = {}
local stored = redis.call('HGETALL', cooling)
for i = 1, #stored, 2 do
  local known = cjson.decode(stored[i + 1])
  if known[1] + probation < now then
    redis.call('HDEL', cooling, stored[i])
  else
    cools[#cools + 1] = { stored[i], math.max(0, known[1] - now), known[2], known[3] }
  end
end
return cjson.encode({ totals, cools })
