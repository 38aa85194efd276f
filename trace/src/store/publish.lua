-- Adds traces of one tenant, each whole or not at all. Older ones make room for all of them at once: by bytes, by entries, by age.
-- KEYS: stream, index, list, total
-- ARGV: max_entries, max_bytes, ttl_ms, then for each trace:
--       name (execution.attempt), start_ms, cost, rest of the index row, number of chunks, chunk...
-- Answers with a number for each trace: 1 it is kept, 0 it was there already.
local stream, index, list, total = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local max_entries, max_bytes, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- Of a run that has several attempts the index has the newest; of most there is one, and nothing is written.
local function forget_newest(name)
  local run, number = string.match(name, '^(%x+)%.(%d+)$')
  if number ~= '1' and redis.call('HGET', index, run) == number then redis.call('HDEL', index, run) end
end

local function forget(names, spent)
  if #names == 0 then return end
  redis.call('HDEL', index, unpack(names))
  redis.call('ZREM', list, unpack(names))
  redis.call('DECRBY', total, string.format('%d', spent))
  for _, name in ipairs(names) do forget_newest(name) end
end

local function spent_of(row) return tonumber(string.match(row, '^%S+ %S+ %d+ (%d+) ')) end

-- Takes traces away from the beginning of the stream until `cost` bytes and `chunks` entries fit. What is left of a trace whose beginning is
-- gone, or whose row is, goes with them. A bound that was lowered by far is reached in several calls.
local function make_room(cost, chunks)
  local now = redis.call('TIME')
  now = now[1] * 1000 + math.floor(now[2] / 1000)
  local used, length = tonumber(redis.call('GET', total) or '0'), redis.call('XLEN', stream)
  local names, spent, removed, removing = {}, 0, nil, nil
  local function fits() return used + cost <= max_bytes and length + chunks <= max_entries end
  local enough, empty = false, false
  for _ = 1, 100 do
    local heads = redis.call('XRANGE', stream, removed and ('(' .. removed) or '-', '+', 'COUNT', fits() and 1 or 16)
    if #heads == 0 then
      empty = true
      break
    end
    local whose = {}
    for i, head in ipairs(heads) do whose[i] = head[2][2] end
    local rows = redis.call('HMGET', index, unpack(whose))
    for i, head in ipairs(heads) do
      local id, name, row = head[1], whose[i], rows[i]
      if removing ~= name then
        local age = now - tonumber(string.match(id, '^%d+'))
        if fits() and age <= ttl then
          enough = true
          break
        end
        removing = name
        if row then
          local cost_of_it = spent_of(row)
          names[#names + 1], spent, used = name, spent + cost_of_it, used - cost_of_it
        end
      end
      removed, length = id, length - 1
    end
    if enough then break end
  end
  forget(names, spent)
  if empty then
    -- The stream has expired, was removed, or is over: what is said of it is void.
    redis.call('DEL', stream, index, list, total)
  elseif removed then
    local millis, number = string.match(removed, '^(%d+)-(%d+)$')
    redis.call('XTRIM', stream, 'MINID', '=', millis .. '-' .. string.format('%d', number + 1))
  end
end

local traces, names, at = {}, {}, 4
while at <= #ARGV do
  local chunks = tonumber(ARGV[at + 4])
  traces[#traces + 1] = { name = ARGV[at], started = ARGV[at + 1], cost = ARGV[at + 2], rest = ARGV[at + 3], chunks = chunks, at = at + 4 }
  names[#names + 1] = ARGV[at]
  at = at + 5 + chunks
end

local answers, seen, cost, chunks = {}, {}, 0, 0
for i, known in ipairs(redis.call('HMGET', index, unpack(names))) do
  local trace = traces[i]
  answers[i] = seen[trace.name] and 0 or 1
  if known and answers[i] == 1 then
    local first = string.match(known, '^%S+')
    if #redis.call('XRANGE', stream, first, first) == 1 then
      answers[i] = 0
    else
      forget({ trace.name }, spent_of(known))
    end
  end
  seen[trace.name] = true
  if answers[i] == 1 then cost, chunks = cost + tonumber(trace.cost), chunks + trace.chunks end
end
if chunks == 0 then return answers end
make_room(cost, chunks)

local rows, starts = {}, {}
for i, trace in ipairs(traces) do
  if answers[i] == 1 then
    local first, last
    for n = 1, trace.chunks do
      last = redis.call('XADD', stream, '*', 'x', trace.name, 'n', n .. '/' .. trace.chunks, 'd', ARGV[trace.at + n])
      first = first or last
    end
    rows[#rows + 1] = trace.name
    rows[#rows + 1] = first .. ' ' .. last .. ' ' .. trace.chunks .. ' ' .. trace.cost .. ' ' .. trace.rest
    starts[#starts + 1], starts[#starts + 2] = trace.started, trace.name
  end
end
redis.call('HSET', index, unpack(rows))
redis.call('ZADD', list, unpack(starts))
redis.call('INCRBY', total, string.format('%d', cost))
for i, trace in ipairs(traces) do
  local execution, attempt = string.match(trace.name, '^(%x+)%.(%d+)$')
  if answers[i] == 1 and attempt ~= '1' then
    local newest = redis.call('HGET', index, execution)
    if not newest or tonumber(newest) < tonumber(attempt) then redis.call('HSET', index, execution, attempt) end
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return answers
