#!lua flags=allow-oom
-- Keeps running jobs leased. KEYS: the queue. ARGV: the lease (milliseconds), the prefix of running marks, the jobs' ids.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #ARGV do
  if redis.call('PEXPIRE', ARGV[2] .. ARGV[i], ARGV[1]) == 1 then
    redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + ARGV[1] + 5), ARGV[i])
  end
end
