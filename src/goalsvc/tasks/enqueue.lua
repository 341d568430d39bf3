-- Enqueues jobs, each unless one of its id waits or runs; due times are relative, so that only this server's clock counts.
-- KEYS: the queue, the list of its wake-up tokens.
-- ARGV: how many jobs the queue may hold (0: any number), the most tokens, the prefix of job bodies;
--       then for each job its id, delay and lifetime (milliseconds) and body.
-- Returns how many jobs are new, or -1 when the queue is as long as it may be.
local most = tonumber(ARGV[1])
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local added = 0
for i = 4, #ARGV, 4 do
  redis.call('SET', ARGV[3] .. ARGV[i], ARGV[i + 3], 'NX', 'PX', ARGV[i + 2])
  added = added + redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now + ARGV[i + 1]), ARGV[i])
end
for _ = 1, math.min(added, 4) do redis.call('LPUSH', KEYS[2], '1') end
if added > 0 then redis.call('LTRIM', KEYS[2], 0, ARGV[2] - 1) end
return added
