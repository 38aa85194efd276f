-- Adds traces of one tenant whose entries are in the stream already: with its row a trace is there, whole. The oldest make room for all of
-- them at once: by bytes, by entries, by age. The bytes of traces never come here: Lua hashes every byte of every string that it sees, which
-- for the 2.6 KB of a small trace took Redis 4 us each time.
-- KEYS: stream, index, list, total
-- ARGV: max_entries, max_bytes, ttl_ms, then for each trace: name (execution.attempt), start_ms, cost, row
-- Answers with a number for each trace: 1 it is kept, 0 it was there already, and its new entries are nobody's.
local stream, index, list, total = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local max_entries, max_bytes, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)

-- What the oldest entry is kept for although no row names it: its trace may be on its way.
local NOBODYS = 600000

-- Of a run that has several attempts the index has the newest; of most there is one, and nothing is written.
local function forget_newest(name)
  if string.sub(name, -2) == '.1' then return end
  local run, number = string.match(name, '^(%x+)%.(%d+)$')
  if redis.call('HGET', index, run) == number then redis.call('HDEL', index, run) end
end

local function forget(names, spent)
  if #names == 0 then return end
  redis.call('HDEL', index, unpack(names))
  redis.call('ZREM', list, unpack(names))
  redis.call('DECRBY', total, string.format('%d', spent))
  for _, name in ipairs(names) do forget_newest(name) end
end

-- Of a row: id of the first entry, number of entries, cost. What is rarely asked for is no string of Lua's.
local function parts(row)
  local first, chunks, cost = string.match(row, '^(%d+%-%d+) %S+ (%d+) (%d+) ')
  return first, tonumber(chunks), tonumber(cost)
end

local function last_of(row) return string.match(row, '^%S+ (%S+)') end

local function millis_of(id) return tonumber(string.match(id, '^%d+')) end

-- Removes the entries of a trace; how many there were. One by one: they may be larger than what a script should hold.
local function remove(first, last)
  local removed = 0
  while true do
    local entry = redis.call('XRANGE', stream, first, last, 'COUNT', 1)[1]
    if not entry then return removed end
    removed = removed + redis.call('XDEL', stream, entry[1])
  end
end

-- Entries at the beginning whose trace never came, since its worker died in between.
local function sweep()
  for _ = 1, 16 do
    local head = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not head or now - millis_of(head[1]) < NOBODYS then return end
    if redis.call('HEXISTS', index, head[2][2]) == 1 then return end
    redis.call('XDEL', stream, head[1])
  end
end

-- Takes the oldest traces away until `cost` bytes more fit, with the entries that are there already. A bound that was lowered by far is
-- reached in several calls.
local function make_room(cost)
  local used, length = tonumber(redis.call('GET', total) or '0'), redis.call('XLEN', stream)
  local names, gone, spent, at = {}, {}, 0, 0
  local function fits() return used + cost <= max_bytes and length <= max_entries end
  for _ = 1, 100 do
    local oldest = redis.call('ZRANGE', list, at, fits() and at or at + 15)
    if #oldest == 0 then break end
    at = at + #oldest
    local enough = false
    for i, row in ipairs(redis.call('HMGET', index, unpack(oldest))) do
      if row then
        local first, chunks, cost_of_it = parts(row)
        if first then
          if fits() and now - millis_of(first) <= ttl then
            enough = true
            break
          end
          if chunks == 1 then
            gone[#gone + 1], length = first, length - 1
          else
            length = length - remove(first, last_of(row))
          end
          spent, used = spent + cost_of_it, used - cost_of_it
        end
      end
      names[#names + 1] = oldest[i]
    end
    if enough then break end
  end
  if #gone > 0 then redis.call('XDEL', stream, unpack(gone)) end
  forget(names, spent)
end

local names, wanted, seen, cost = {}, {}, {}, 0
for at = 4, #ARGV, 4 do names[#names + 1] = ARGV[at] end
if #names == 0 then return wanted end
for i, known in ipairs(redis.call('HMGET', index, unpack(names))) do
  local name = names[i]
  wanted[i] = seen[name] and 0 or 1
  if known and wanted[i] == 1 then
    local first, _, spent = parts(known)
    if first and #redis.call('XRANGE', stream, first, first) == 1 then
      wanted[i] = 0
    else
      if first then remove(first, last_of(known)) end
      forget({ name }, spent or 0)
    end
  end
  seen[name] = true
  if wanted[i] == 1 then cost = cost + tonumber(ARGV[4 * i + 2]) end
end
if cost == 0 then return wanted end
sweep()
make_room(cost)

local rows, starts, again = {}, {}, {}
for i, name in ipairs(names) do
  if wanted[i] == 1 then
    rows[#rows + 1], rows[#rows + 2] = name, ARGV[4 * i + 3]
    starts[#starts + 1], starts[#starts + 2] = ARGV[4 * i + 1], name
    if string.sub(name, -2) ~= '.1' then again[#again + 1] = name end
  end
end
redis.call('HSET', index, unpack(rows))
redis.call('ZADD', list, unpack(starts))
redis.call('INCRBY', total, string.format('%d', cost))
for _, name in ipairs(again) do
  local run, attempt = string.match(name, '^(%x+)%.(%d+)$')
  local newest = redis.call('HGET', index, run)
  if not newest or tonumber(newest) < tonumber(attempt) then redis.call('HSET', index, run, attempt) end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return wanted
