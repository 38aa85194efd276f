-- Removes traces, or what is left of them. Says how many there were.
-- KEYS: stream, index, list, total
-- ARGV: 1: only those whose first entry is gone (0: all), name (execution.attempt)...
local stream, index, list, total = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local removed = 0
for i = 2, #ARGV do
  local name = ARGV[i]
  local row = redis.call('HGET', index, name)
  local first, last, spent
  if row then first, last, spent = string.match(row, '^(%S+) (%S+) %d+ (%d+) ') end
  if not row then
    redis.call('ZREM', list, name)
  elseif ARGV[1] == '0' or #redis.call('XRANGE', stream, first, first) == 0 then
    redis.call('ZREM', list, name)
    -- One by one: a trace may be larger than what a script should hold.
    while true do
      local entry = redis.call('XRANGE', stream, first, last, 'COUNT', 1)[1]
      if not entry then break end
      redis.call('XDEL', stream, entry[1])
    end
    redis.call('HDEL', index, name)
    redis.call('DECRBY', total, spent)
    local run, number = string.match(name, '^(%x+)%.(%d+)$')
    if redis.call('HGET', index, run) == number then redis.call('HDEL', index, run) end
    removed = removed + 1
  end
end
return removed
