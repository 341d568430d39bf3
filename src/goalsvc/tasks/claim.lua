#!lua flags=allow-oom
-- Claims jobs that are due and that no worker runs. The flag lets a server that is full (`noeviction`) drain.
-- KEYS: the queue, the list of its wake-up tokens.
-- ARGV: how many, the lease (milliseconds), the prefixes of running marks, job bodies and counts of tries.
-- Returns in how many milliseconds the next job is due (empty: none waits), then for each claimed job its id, its body (empty:
-- expired), the number of this try, and how long it was due (milliseconds).
local most, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = {''}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #due, 2 do
  local id = due[i]
  -- Due again when the lease is over, just after the mark is gone; until then no other claim looks at it.
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + lease + 5), id)
  if redis.call('SET', ARGV[3] .. id, '1', 'NX', 'PX', lease) then
    claimed[#claimed + 1] = id
    claimed[#claimed + 1] = redis.call('GET', ARGV[4] .. id) or ''
    claimed[#claimed + 1] = redis.call('INCR', ARGV[5] .. id)
    claimed[#claimed + 1] = string.format('%.0f', now - due[i + 1])
    redis.call('EXPIRE', ARGV[5] .. id, 88400)
  end
end
if #due < 2 * most then
  -- All that is due is taken: the tokens that are left would wake a worker for nothing.
  redis.call('DEL', KEYS[2])
end
local waiting = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if waiting[2] then claimed[1] = string.format('%.0f', math.max(waiting[2] - now, 0)) end
return claimed
