-- Enqueues jobs, each unless one of its id waits; due times are relative, so that only this server's clock counts. While one of
-- its id runs, the job is left in the running mark as `{due} {body}`: that run may have fulfilled the promise just before this
-- one was made. Jobs of the sweep, whose queue has a limit, are not: it finds what is still promised later.
-- KEYS: the queue, the list of its wake-up tokens.
-- ARGV: how many jobs the queue may hold (0: any number), the most tokens, the prefixes of job bodies and running marks;
--       then for each job its id, delay and lifetime (milliseconds) and body.
-- Returns how many jobs are new, or -1 when the queue is as long as it may be.
local most = tonumber(ARGV[1])
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local added = 0
for i = 5, #ARGV, 4 do
  local id, due, body = ARGV[i], string.format('%.0f', now + ARGV[i + 1]), ARGV[i + 3]
  redis.call('SET', ARGV[3] .. id, body, 'NX', 'PX', ARGV[i + 2])
  local new = redis.call('ZADD', KEYS[1], 'NX', due, id)
  if new == 0 and most == 0 then redis.call('SET', ARGV[4] .. id, due .. ' ' .. body, 'XX', 'KEEPTTL') end
  added = added + new
end
for _ = 1, math.min(added, 4) do redis.call('LPUSH', KEYS[2], '1') end
if added > 0 then redis.call('LTRIM', KEYS[2], 0, ARGV[2] - 1) end
return added
