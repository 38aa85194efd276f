-- Adds a trace whole, or not at all. Older ones make room: by bytes, by entries, by age.
-- KEYS: stream, index, list, total
-- ARGV: name (execution.attempt), start_ms, cost, max_entries, max_bytes, ttl_ms, rest of the index row, chunk...
local stream, index, list, total = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, started, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local max_entries, max_bytes, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local chunks = #ARGV - 7
local execution, attempt = string.match(name, '^(%x+)%.(%d+)$')

local function forget(who, row)
  local spent = string.match(row, '^%S+ %S+ %d+ (%d+) ')
  redis.call('HDEL', index, who)
  redis.call('ZREM', list, who)
  redis.call('DECRBY', total, spent)
  local run, number = string.match(who, '^(%x+)%.(%d+)$')
  if redis.call('HGET', index, run) == number then redis.call('HDEL', index, run) end
end

local known = redis.call('HGET', index, name)
if known then
  local first = string.match(known, '^%S+')
  if #redis.call('XRANGE', stream, first, first) == 1 then return 0 end
  forget(name, known)
end

local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
-- Each turn costs a few microseconds; a bound that was lowered by far is reached in several calls.
for _ = 1, 1000 do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not oldest then
    -- The stream expired or was removed: what is said of it is void.
    redis.call('DEL', index, list, total)
    break
  end
  local id, fields = oldest[1], oldest[2]
  local used = tonumber(redis.call('GET', total) or '0')
  local age = now - tonumber(string.match(id, '^%d+'))
  if used + cost <= max_bytes and redis.call('XLEN', stream) + chunks <= max_entries and age <= ttl then break end
  local row = redis.call('HGET', index, fields[2])
  local first, last, millis, number
  if row then
    first, last = string.match(row, '^(%S+) (%S+) ')
    millis, number = string.match(last, '^(%d+)-(%d+)$')
  end
  if first == id then
    redis.call('XTRIM', stream, 'MINID', '=', millis .. '-' .. string.format('%d', number + 1))
    forget(fields[2], row)
  else
    -- What is left of a trace whose beginning is gone, or whose row is.
    redis.call('XDEL', stream, id)
    if row then forget(fields[2], row) end
  end
end

local first, last
for i = 1, chunks do
  last = redis.call('XADD', stream, '*', 'x', name, 'n', i .. '/' .. chunks, 'd', ARGV[7 + i])
  first = first or last
end
redis.call('HSET', index, name, first .. ' ' .. last .. ' ' .. chunks .. ' ' .. ARGV[3] .. ' ' .. ARGV[7])
redis.call('ZADD', list, started, name)
redis.call('INCRBY', total, ARGV[3])
-- The newest attempt of a run that has several; of most there is one, and nothing is written.
if attempt ~= '1' then
  local newest = redis.call('HGET', index, execution)
  if not newest or tonumber(newest) < tonumber(attempt) then redis.call('HSET', index, execution, attempt) end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return 1
