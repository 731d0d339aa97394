-- Every change of a catalogue's entry. One file, run with EVALSHA; ARGV[1] names the change. See entries.py.
--
-- KEYS[1]   index     ZSET of ids
-- KEYS[2]   counter   STRING: the score given last, where entries are listed by order of creation
-- KEYS[3]   row       HASH with the entry's fields
-- ARGV[1]   put, update or delete
-- ARGV[2]   id
-- ARGV[3]   "created" or "name": the order of the index
-- ARGV[4]   links as JSON: members [[SET, member]], counts [[HASH, field]], needs [id], held_by SET or ""
-- ARGV[5]   n, the number of fields; then n names, the n values that were read (not for put), the n new values (not
--           for delete)
-- Reply     an array: a word saying how it went, then what belongs to it.

local id, links, n = ARGV[2], cjson.decode(ARGV[4]), tonumber(ARGV[5])
local index, counter, row = KEYS[1], KEYS[2], KEYS[3]

local function stored()
  local values = {}
  for i = 1, n do values[i] = redis.call('HGET', row, ARGV[5 + i]) or '' end
  return values
end

local function unchanged()
  for i, value in ipairs(stored()) do
    if value ~= ARGV[5 + n + i] then return false end
  end
  return true
end

local function write(values)
  for i = 1, n do redis.call('HSET', row, ARGV[5 + i], ARGV[values + i]) end
end

local changes = {}

-- {'new'}, {'there', value...} or {'missing', id}: an entry that this one needs is not there.
function changes.put()
  if redis.call('HEXISTS', row, ARGV[6]) == 1 then return { 'there', unpack(stored()) } end
  for _, needed in ipairs(links.needs) do
    if not redis.call('ZSCORE', index, needed) then return { 'missing', needed } end
  end
  for _, member in ipairs(links.members) do redis.call('SADD', member[1], member[2]) end
  for _, counted in ipairs(links.counts) do redis.call('HINCRBY', counted[1], counted[2], 1) end
  write(5 + n)
  redis.call('ZADD', index, ARGV[3] == 'created' and redis.call('INCR', counter) or 0, id)
  return { 'new' }
end

-- {'done'} or {'changed'}: the row is no longer what was read.
function changes.update()
  if not unchanged() then return { 'changed' } end
  write(5 + 2 * n)
  return { 'done' }
end

-- {'done'}, {'changed'} or {'held', member...}.
function changes.delete()
  if not unchanged() then return { 'changed' } end
  if links.held_by ~= '' then
    local members = redis.call('SMEMBERS', links.held_by)
    if #members > 0 then return { 'held', unpack(members) } end
  end
  for _, member in ipairs(links.members) do redis.call('SREM', member[1], member[2]) end
  for _, counted in ipairs(links.counts) do
    if redis.call('HINCRBY', counted[1], counted[2], -1) < 1 then redis.call('HDEL', counted[1], counted[2]) end
  end
  for i = 1, n do redis.call('HDEL', row, ARGV[5 + i]) end
  redis.call('ZREM', index, id)
  return { 'done' }
end

return changes[ARGV[1]]()
