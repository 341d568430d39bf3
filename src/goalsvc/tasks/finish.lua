#!lua flags=allow-oom
-- Says what becomes of jobs that were run. One that was enqueued again meanwhile (see enqueue.lua) waits for its next run.
-- KEYS: the queue, the list of its wake-up tokens.
-- ARGV: the prefixes of running marks, job bodies and counts of tries; then for each job its id, in how many milliseconds it
--       is run again (-1: it is done), and 1 where this run does not count as a try.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local woken = false
for i = 4, #ARGV, 3 do
  local id, after = ARGV[i], tonumber(ARGV[i + 1])
  local due, body = string.match(redis.call('GET', ARGV[1] .. id) or '', '^(%d+) (.*)$')
  redis.call('DEL', ARGV[1] .. id)
  if after < 0 then redis.call('DEL', ARGV[2] .. id, ARGV[3] .. id) end
  if after < 0 and due then
    redis.call('SET', ARGV[2] .. id, body, 'PX', 86400000 + math.max(due - now, 0))
    redis.call('ZADD', KEYS[1], due, id)
    woken = true
  elseif after < 0 then
    redis.call('ZREM', KEYS[1], id)
  elseif redis.call('ZADD', KEYS[1], 'XX', 'CH', string.format('%.0f', now + after), id) == 1 then
    -- The wait that is under way does not know of this time.
    woken = true
    if ARGV[i + 2] == '1' then redis.call('DECR', ARGV[3] .. id) end
  end
end
if woken then redis.call('LPUSH', KEYS[2], '1') end
