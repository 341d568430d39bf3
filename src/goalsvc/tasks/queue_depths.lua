#!lua flags=allow-oom
-- How many jobs of each queue are due, and for how long the oldest of them has been (milliseconds). KEYS: the queues.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
for i = 1, #KEYS do
  local oldest = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  local waited = 0
  if oldest[2] then waited = math.max(now - oldest[2], 0) end
  answer[#answer + 1] = redis.call('ZCOUNT', KEYS[i], '-inf', now)
  answer[#answer + 1] = string.format('%.0f', waited)
end
return answer
