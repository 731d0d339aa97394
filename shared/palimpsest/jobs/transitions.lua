-- Every change a job record can go through. One file, run with EVALSHA; ARGV[1] names the transition.
--
-- KEYS[1]   prefix of every key below
-- ARGV[1]   transition: submit claim heartbeat checkpoint publish finish release cancel delete retry sweep list stats
-- ARGV[2]   its arguments as a JSON object
-- Reply     an array: a word saying how it went ("ok" or why not), then what the transition returns.
--
-- Keys
--   job:<id>                     HASH  the record: the truth about a job. Fields:
--       v                        schema version of the record; a newer one than SCHEMA is refused, never changed
--       id seq kind queue        name, order of submission, "room.verb", Celery queue
--       request_type request     protobuf type name; the request as JSON
--       response_type response   the same of the result; set by SUCCEEDED
--       error                    {code, reason, message, ...} as JSON; set by FAILED and CANCELLED
--       principal action         who asked; digest of the work, empty if never deduplicated
--       trace                    W3C trace headers of the call that submitted it, as JSON
--       state                    QUEUED RUNNING SUCCEEDED FAILED CANCELLED
--       revision update_ms       + 1 with every change, and when that was
--       attempt max_attempts     claims that count; more are refused
--       owner worker             token of the claim that holds (held) the lease; the worker's name
--       lease_ms                 the lease ends then unless renewed
--       ended_by                 token of the claim that finished the record itself
--       cancel                   "1": cancellation was asked for
--       not_before_ms timeout_ms earliest claim; longest run of one attempt (0: no limit)
--       retention_ms             how long the finished record is kept
--       stage done total fraction  progress
--       checkpoint               JSON a later attempt resumes from
--       artifacts                digests published by the job, separated by spaces
--       create_ms start_ms end_ms expire_ms
--   jobs:seq                     STRING  counter behind seq
--   jobs:index                   ZSET  id by seq: all jobs; and the parts of it that lists ask for:
--   jobs:index:<STATE>, jobs:index:kind:<kind>, jobs:index:kind:<kind>:<STATE>
--   jobs:index:queue:<queue>:<STATE>, jobs:index:principal:<principal>:<STATE>  only counted
--   jobs:leases                  ZSET  RUNNING id by lease_ms
--   jobs:timeouts                ZSET  RUNNING id by the end of its longest run
--   jobs:hints                   ZSET  QUEUED id by when its next wake-up message is due
--   jobs:expiry                  ZSET  finished id by expire_ms
--   jobs:dead                    ZSET  id by end_ms: dead letters, every attempt's worker died
--   jobs:counters                HASH  since ever: "attempts <kind>", "lapsed", "ended <kind> <outcome>"
--   jobs:events                  pub/sub channel: the id of each record that changed
--   idem:<digest>                STRING  "<request digest> <job id>" of a request_id already used; expires
--   action:<digest>              STRING  the job that does, or did, this work
--   drain:<worker>               STRING  set while that worker shuts down
--   refs:<artefact>              SET  owners of an artefact; here "job/<id>"
--   owned:job/<id>               SET  artefacts this job refers to
--   collecting                   SET  artefacts under deletion: no reference may be added
--   celery:<queue>               LIST  wake-up messages waiting in the broker; only counted here
--
-- Times are milliseconds of the server's clock, so that workers' clocks do not matter; tests pass "now".

local SCHEMA = 1
local HINT_INTERVAL = 10000 -- a QUEUED job is announced again after this long without being claimed
local HINT_BACKLOG = 64     -- with this many messages waiting, workers are awake: more would only pile up
local LIST_BYTES = 2097152  -- a page ends here, so that it fits a gRPC message

local P = KEYS[1]
local a = cjson.decode(ARGV[2])
local time = redis.call('TIME')
local NOW = a.now or (time[1] * 1000 + math.floor(time[2] / 1000))
local NUMBERS = { 'v', 'seq', 'revision', 'attempt', 'max_attempts', 'lease_ms', 'not_before_ms', 'timeout_ms',
  'retention_ms' }
local WORDS = { 'id', 'kind', 'queue', 'principal', 'state', 'owner', 'ended_by', 'cancel', 'action', 'artifacts' }
local TERMINAL = { SUCCEEDED = true, FAILED = true, CANCELLED = true }

-- The fields transitions decide on, without the payloads; nil if there is no record.
local function peek(id)
  local key = P .. 'job:' .. id
  local numbers = redis.call('HMGET', key, unpack(NUMBERS))
  if not numbers[1] then return nil end
  local job = { key = key }
  for i, name in ipairs(NUMBERS) do job[name] = tonumber(numbers[i]) or 0 end
  for i, value in ipairs(redis.call('HMGET', key, unpack(WORDS))) do job[WORDS[i]] = value or '' end
  return job
end

local function load(id)
  local job = peek(id)
  if job and job.v > SCHEMA then error({ newer = id }) end
  return job
end

local function record(id)
  return { 'ok', redis.call('HGETALL', P .. 'job:' .. id) }
end

local function indexes(job)
  local kind = P .. 'jobs:index:kind:' .. job.kind
  return { P .. 'jobs:index', kind }, { P .. 'jobs:index:' .. job.state, kind .. ':' .. job.state,
    P .. 'jobs:index:queue:' .. job.queue .. ':' .. job.state,
    P .. 'jobs:index:principal:' .. job.principal .. ':' .. job.state }
end

local function count(what)
  redis.call('HINCRBY', P .. 'jobs:counters', what, 1)
end

-- Write fields, count the revision, announce.
local function change(job, fields)
  local write = { 'revision', job.revision + 1, 'update_ms', NOW }
  job.revision = job.revision + 1
  if fields.state and fields.state ~= job.state then
    local _, old = indexes(job)
    for _, key in ipairs(old) do redis.call('ZREM', key, job.id) end
    job.state = fields.state
    local _, new = indexes(job)
    for _, key in ipairs(new) do redis.call('ZADD', key, job.seq, job.id) end
  end
  for name, value in pairs(fields) do
    write[#write + 1] = name
    write[#write + 1] = value
    job[name] = value
  end
  redis.call('HSET', job.key, unpack(write))
  redis.call('PUBLISH', P .. 'jobs:events', job.id)
end

local function leave_worker(job)
  redis.call('ZREM', P .. 'jobs:leases', job.id)
  redis.call('ZREM', P .. 'jobs:timeouts', job.id)
end

local function enqueue(job, fields, due)
  leave_worker(job)
  fields.state, fields.owner = 'QUEUED', ''
  change(job, fields)
  redis.call('ZADD', P .. 'jobs:hints', math.max(due, job.not_before_ms), job.id)
end

local function conclude(job, state, fields, outcome)
  leave_worker(job)
  count('ended ' .. job.kind .. ' ' .. (outcome or string.lower(state)))
  redis.call('ZREM', P .. 'jobs:hints', job.id)
  fields.state, fields.end_ms, fields.expire_ms = state, NOW, NOW + job.retention_ms
  redis.call('ZADD', P .. 'jobs:expiry', fields.expire_ms, job.id)
  change(job, fields)
end

local function failure(code, reason, message)
  return { error = cjson.encode({ code = code, reason = reason, message = message }) }
end

local function conclude_cancelled(job)
  conclude(job, 'CANCELLED', failure(1, 'JOB_CANCELLED', 'The job was cancelled.'))
end

local function conclude_exhausted(job)
  conclude(job, 'FAILED', failure(13, 'ATTEMPTS_EXHAUSTED', string.format(
    'The worker died on each of %d attempts. If the job is not what kills it, retry it.', job.attempt)), 'dead')
  redis.call('ZADD', P .. 'jobs:dead', NOW, job.id)
end

-- The worker fell silent: another may try, if tries are left.
local function lapse(job)
  count('lapsed')
  if job.cancel == '1' then
    conclude_cancelled(job)
  elseif job.attempt >= job.max_attempts then
    conclude_exhausted(job)
  else
    enqueue(job, {}, NOW)
  end
end

-- The job, if the caller's claim still holds it.
local function held()
  local job = load(a.id)
  if job and job.state == 'RUNNING' and job.owner == a.owner and job.attempt == a.attempt then return job end
  return nil, job
end

local function refer(digest, id)
  redis.call('SADD', P .. 'refs:' .. digest, 'job/' .. id)
  redis.call('SADD', P .. 'owned:job/' .. id, digest)
end

local function forget(job)
  leave_worker(job)
  for _, key in ipairs({ 'hints', 'expiry', 'dead' }) do redis.call('ZREM', P .. 'jobs:' .. key, job.id) end
  for _, group in ipairs({ indexes(job) }) do
    for _, key in ipairs(group) do redis.call('ZREM', key, job.id) end
  end
  local owner = 'job/' .. job.id
  for _, digest in ipairs(redis.call('SMEMBERS', P .. 'owned:' .. owner)) do
    redis.call('SREM', P .. 'refs:' .. digest, owner)
  end
  redis.call('DEL', P .. 'owned:' .. owner, job.key)
  if job.action ~= '' and redis.call('GET', P .. 'action:' .. job.action) == job.id then
    redis.call('DEL', P .. 'action:' .. job.action)
  end
  redis.call('PUBLISH', P .. 'jobs:events', job.id)
end

-- A request_id seen before: the job it made, and whether the request was another one.
local function repeated()
  local seen = a.idem ~= '' and redis.call('GET', P .. 'idem:' .. a.idem)
  if not seen then return nil end
  local digest, id = string.match(seen, '^(%S+) (%S+)$')
  if redis.call('EXISTS', P .. 'job:' .. id) == 0 then return nil end
  return id, digest ~= a.request_digest
end

local function remember(id)
  if a.idem ~= '' then
    redis.call('SET', P .. 'idem:' .. a.idem, a.request_digest .. ' ' .. id, 'PX', a.idem_ms)
  end
end

-- Why no more jobs may wait: "full" for everybody, "quota" for this caller; nil if they may.
local function refusal(principal)
  if redis.call('ZCARD', P .. 'jobs:index:QUEUED') >= a.queue_limit then return 'full' end
  local mine = P .. 'jobs:index:principal:' .. principal .. ':QUEUED'
  if a.quota > 0 and redis.call('ZCARD', mine) >= a.quota then return 'quota' end
end

local T = {}

-- ok record | reused id | full | quota | collecting digest
function T.submit()
  local id, differs = repeated()
  if differs then return { 'reused', id } end
  if id then return record(id) end
  if redis.call('EXISTS', P .. 'job:' .. a.id) == 1 then return record(a.id) end -- the answer was lost, not the job
  if a.action ~= '' and not a.skip_cache then
    local twin = redis.call('GET', P .. 'action:' .. a.action)
    local job = twin and peek(twin)
    if job and job.v <= SCHEMA and (job.state == 'SUCCEEDED' or (not TERMINAL[job.state] and job.cancel ~= '1')) then
      remember(twin)
      return record(twin)
    end
  end
  local refused = refusal(a.principal)
  if refused then return { refused } end
  for _, digest in ipairs(a.inputs) do
    if redis.call('SISMEMBER', P .. 'collecting', digest) == 1 then return { 'collecting', digest } end
  end
  local job = { key = P .. 'job:' .. a.id, id = a.id, kind = a.kind, queue = a.queue, principal = a.principal,
    state = 'QUEUED', revision = 0,
    seq = redis.call('INCR', P .. 'jobs:seq'), not_before_ms = a.delay_ms > 0 and NOW + a.delay_ms or 0 }
  for _, digest in ipairs(a.inputs) do refer(digest, a.id) end
  for _, group in ipairs({ indexes(job) }) do
    for _, key in ipairs(group) do redis.call('ZADD', key, job.seq, job.id) end
  end
  enqueue(job, { v = SCHEMA, id = a.id, seq = job.seq, kind = a.kind, queue = a.queue, principal = a.principal,
    trace = a.trace, request_type = a.request_type, request = a.request, response_type = '', action = a.action, attempt = 0,
    max_attempts = a.max_attempts, not_before_ms = job.not_before_ms, timeout_ms = a.timeout_ms,
    retention_ms = a.retention_ms, create_ms = NOW }, NOW + HINT_INTERVAL)
  if a.action ~= '' then redis.call('SET', P .. 'action:' .. a.action, a.id) end
  remember(a.id)
  return record(a.id)
end

-- ok record | refused state | missing
function T.claim()
  local job = load(a.id)
  if not job then return { 'missing' } end
  if job.state == 'RUNNING' and job.owner == a.owner then return record(a.id) end -- the answer was lost
  if redis.call('EXISTS', P .. 'drain:' .. a.worker) == 1 then
    if job.state == 'QUEUED' then redis.call('ZADD', P .. 'jobs:hints', 'XX', NOW, a.id) end
    return { 'refused', 'DRAINING' }
  end
  -- Lapsed leases are the sweep's to judge; a claim only does it where no sweep seems to run.
  if job.state == 'RUNNING' and job.lease_ms + a.lease_ms <= NOW then lapse(job) end
  if job.state ~= 'QUEUED' or job.not_before_ms > NOW then return { 'refused', job.state } end
  count('attempts ' .. job.kind)
  redis.call('ZREM', P .. 'jobs:hints', job.id)
  redis.call('ZADD', P .. 'jobs:leases', NOW + a.lease_ms, job.id)
  if job.timeout_ms > 0 then redis.call('ZADD', P .. 'jobs:timeouts', NOW + job.timeout_ms, job.id) end
  change(job, { state = 'RUNNING', attempt = job.attempt + 1, owner = a.owner, worker = a.worker,
    lease_ms = NOW + a.lease_ms, start_ms = NOW })
  return record(a.id)
end

-- ok cancel drain | lost
function T.heartbeat()
  local job = held()
  if not job then return { 'lost' } end
  redis.call('HSET', job.key, 'lease_ms', NOW + a.lease_ms)
  redis.call('ZADD', P .. 'jobs:leases', NOW + a.lease_ms, job.id)
  if a.progress then change(job, a.progress) end
  return { 'ok', job.cancel, redis.call('EXISTS', P .. 'drain:' .. a.worker) == 1 and '1' or '' }
end

-- ok | lost
function T.checkpoint()
  local job = held()
  if not job then return { 'lost' } end
  change(job, { checkpoint = a.checkpoint })
  return { 'ok' }
end

-- ok | lost | collecting digest
function T.publish()
  local job = held()
  if not job then return { 'lost' } end
  if redis.call('SISMEMBER', P .. 'collecting', a.digest) == 1 then return { 'collecting', a.digest } end
  refer(a.digest, a.id)
  if not string.find(' ' .. job.artifacts .. ' ', ' ' .. a.digest .. ' ', 1, true) then
    change(job, { artifacts = job.artifacts == '' and a.digest or job.artifacts .. ' ' .. a.digest })
  end
  return { 'ok' }
end

-- ok record | lost
function T.finish()
  local job, other = held()
  if job then
    a.fields.ended_by = a.owner
    conclude(job, a.state, a.fields)
  elseif not (other and other.state == a.state and other.ended_by == a.owner) then -- or the answer was lost
    return { 'lost' }
  end
  return record(a.id)
end

-- ok record | lost
function T.release()
  local job = held()
  if not job then return { 'lost' } end
  if job.cancel == '1' then
    conclude_cancelled(job)
  else
    enqueue(job, { attempt = job.attempt - 1 }, NOW)
  end
  return record(a.id)
end

-- ok record | missing
function T.cancel()
  local job = load(a.id)
  if not job then return { 'missing' } end
  if job.state == 'QUEUED' then
    conclude_cancelled(job)
  elseif job.state == 'RUNNING' and job.cancel ~= '1' then
    change(job, { cancel = '1' })
  end
  return record(a.id)
end

-- ok | missing | refused state
function T.delete()
  local job = load(a.id)
  if not job then return { 'missing' } end
  if not TERMINAL[job.state] then return { 'refused', job.state } end
  forget(job)
  return { 'ok' }
end

-- ok record | missing | reused id | refused state | full | quota
function T.retry()
  local id, differs = repeated()
  if differs then return { 'reused', id } end
  if id then return record(id) end
  local job = load(a.id)
  if not job then return { 'missing' } end
  if job.state ~= 'FAILED' and job.state ~= 'CANCELLED' then return { 'refused', job.state } end
  local refused = refusal(job.principal)
  if refused then return { refused } end
  redis.call('ZREM', P .. 'jobs:expiry', job.id)
  redis.call('ZREM', P .. 'jobs:dead', job.id)
  redis.call('HDEL', job.key, 'error', 'cancel', 'ended_by', 'end_ms', 'expire_ms', 'start_ms', 'stage', 'done',
    'total', 'fraction')
  enqueue(job, { attempt = 0, not_before_ms = 0 }, NOW + HINT_INTERVAL)
  if job.action ~= '' then redis.call('SET', P .. 'action:' .. job.action, job.id, 'NX') end
  remember(job.id)
  return record(job.id)
end

-- Up to a.limit due members of a ZSET whose record this version may change; others are looked at again later.
local function due(name)
  local key = P .. 'jobs:' .. name
  local jobs = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', NOW, 'LIMIT', 0, a.limit)) do
    local job = peek(id)
    if not job then
      redis.call('ZREM', key, id)
    elseif job.v > SCHEMA then
      redis.call('ZADD', key, NOW + HINT_INTERVAL, id)
    else
      jobs[#jobs + 1] = job
    end
  end
  return jobs
end

-- ok lapsed timed_out forgotten, then id and queue of each job to announce. Any number may sweep at once.
function T.sweep()
  local timed_out, lapsed, forgotten = due('timeouts'), {}, due('expiry')
  for _, job in ipairs(timed_out) do
    conclude(job, 'FAILED', failure(4, 'EXECUTION_TIMEOUT', string.format(
      'The job ran longer than the %.0f seconds it was allowed.', job.timeout_ms / 1000)))
  end
  if a.lapse then
    lapsed = due('leases')
    for _, job in ipairs(lapsed) do lapse(job) end
  end
  for _, job in ipairs(forgotten) do forget(job) end
  local reply, room = { 'ok', #lapsed, #timed_out, #forgotten }, {}
  for _, job in ipairs(due('hints')) do
    room[job.queue] = room[job.queue] or HINT_BACKLOG - redis.call('LLEN', P .. 'celery:' .. job.queue)
    if room[job.queue] > 0 then
      room[job.queue] = room[job.queue] - 1
      reply[#reply + 1] = job.id
      reply[#reply + 1] = job.queue
    end
    redis.call('ZADD', P .. 'jobs:hints', NOW + HINT_INTERVAL, job.id)
  end
  return reply
end

-- ok more, then records, newest first, older than seq a.before (0: from the newest)
function T.list()
  local key = P .. 'jobs:index'
  if a.kind ~= '' then key = key .. ':kind:' .. a.kind end
  if a.state ~= '' then key = key .. ':' .. a.state end
  local top = a.before > 0 and '(' .. string.format('%.0f', a.before) or '+inf'
  local ids = redis.call('ZREVRANGEBYSCORE', key, top, '-inf', 'LIMIT', 0, a.limit + 1)
  local reply, bytes = { 'ok', '' }, 0
  for i, id in ipairs(ids) do
    if i > a.limit or bytes > LIST_BYTES then
      reply[2] = '1'
      break
    end
    local fields = redis.call('HGETALL', P .. 'job:' .. id)
    for _, value in ipairs(fields) do bytes = bytes + #value end
    reply[#reply + 1] = fields
  end
  return reply
end

-- ok counters, then for each of a.queues: queued, running, milliseconds the oldest queued has waited
function T.stats()
  local reply = { 'ok', redis.call('HGETALL', P .. 'jobs:counters') }
  for _, queue in ipairs(a.queues) do
    local key = P .. 'jobs:index:queue:' .. queue
    local oldest = redis.call('ZRANGE', key .. ':QUEUED', 0, 0)[1]
    local since = oldest and tonumber(redis.call('HGET', P .. 'job:' .. oldest, 'update_ms')) or NOW
    reply[#reply + 1] = redis.call('ZCARD', key .. ':QUEUED')
    reply[#reply + 1] = redis.call('ZCARD', key .. ':RUNNING')
    reply[#reply + 1] = NOW - since
  end
  return reply
end

local fine, reply = pcall(T[ARGV[1]])
if fine then return reply end
if type(reply) == 'table' and reply.newer then return { 'newer', reply.newer } end
error(reply)
