-- Every change a job record can go through. One file, run with EVALSHA; ARGV[1] names the transition.
--
-- KEYS[1]   prefix of every key below
-- ARGV[1]   transition: submit claim heartbeat checkpoint publish partial partials finish release defer cancel delete
--           retry sweep list stats
-- ARGV[2]   its arguments as a JSON object
-- Reply     an array: first a word ("ok", or the reason of a refusal), then what the transition returns.
--
-- Keys
--   job:<id>                     HASH  the record: the truth about a job. Fields:
--       v                        schema version of the record; a newer one than SCHEMA is refused, never changed
--       id seq kind queue        name, order of submission, "room.verb", Celery queue
--       request_type request     protobuf type name; the request as JSON
--       response_type response   the same of the result; set by SUCCEEDED
--       error                    {code, reason, message, ...} as JSON; set by FAILED and CANCELLED
--       principal action         the caller it works for; digest of the work, empty if never deduplicated
--       inputs                   digests of artefacts the submission named, separated by spaces
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
--       partials partial_bytes   sequence number of the last partial result; bytes of those kept
--       partial_last             owner and number of the last one, so that a repeated call adds nothing
--       create_ms start_ms end_ms expire_ms
--   jobs:seq                     STRING  counter behind seq, and behind the turns of callers
--   jobs:index                   ZSET  id by seq: all jobs; and the subsets that lists ask for:
--   jobs:index:<STATE>, jobs:index:kind:<kind>, jobs:index:kind:<kind>:<STATE>
--   jobs:index:principal:<length>:<principal> and its three subsets of the same form: one caller's jobs
--   jobs:index:queue:<queue>:<STATE>  only counted
--   jobs:waiting:<queue>:<length>:<principal>  ZSET  QUEUED id by seq: one caller's jobs that wait in a queue
--   jobs:turns:<queue>           ZSET  callers whose jobs may wait in a queue, by the turn in which they were served
--   taken:<owner>                STRING  the job that a claim took in place of the one its hint named; expires
--   partials:<id>                LIST  partial results of a job, oldest first: JSON {type, value (base64), attempt, ms}
--   jobs:leases                  ZSET  RUNNING id by lease_ms
--   jobs:timeouts                ZSET  RUNNING id by the end of its longest run
--   jobs:hints                   ZSET  QUEUED id by when its next wake-up message is due
--   jobs:expiry                  ZSET  finished id by expire_ms
--   jobs:dead                    ZSET  id by end_ms: dead letters, every attempt's worker died
--   jobs:counters                HASH  all-time: "attempts <kind>", "lapsed", "ended <kind> <outcome>"
--   jobs:events                  pub/sub channel: the id of each record that changed
--   idem:<digest>                STRING  "<request digest> <job id>" of a request_id already used; expires
--   action:<digest>              STRING  the job that did this work last, whoever asked: its result is shared
--   action:<digest>:<principal>  STRING  this caller's job that does, or did, this work
--   worker:<worker>              STRING  set while that worker is alive; expires
--   queue:<queue>:own            STRING  set while a worker is alive that serves the queue as its own; expires
--   queue:<queue>:standby        STRING  set while a worker is alive that serves it in their absence; expires
--   drain:<worker>               STRING  set while that worker shuts down
--   refs:<artefact>              SET  owners of an artefact; here "job/<id>"
--   owned:job/<id>               SET  artefacts this job refers to
--   owner-principals             HASH  owner of references -> principal; here job/<id> -> principal
--   held:<principal>             HASH artefacts a caller may see (see artifacts/holders.py)
--   holders                      SET  callers that have some
--   collecting                   SET  artefacts under deletion: no reference may be added
--   celery:<queue>               LIST  wake-up messages waiting in the broker; only counted here
--
-- Times are milliseconds of the server's clock, so that workers' clocks do not matter; tests pass "now".

local SCHEMA = 1
local HINT_INTERVAL = 10000 -- a QUEUED job is announced again after this long without being claimed
local HINT_BACKLOG = 64     -- with this many messages waiting, workers are awake: more would only pile up
local LIST_BYTES = 2097152  -- a page ends here, so that it fits a gRPC message
local DELAYED = 100         -- jobs of one caller looked at for one that is due: delays are rare
local PARTIALS = 1000       -- partial results kept for one job; the oldest go first
local PARTIAL_BYTES = 1048576 -- bytes of them

local P = KEYS[1]
local a = cjson.decode(ARGV[2])
local time = redis.call('TIME')
local NOW = a.now or (time[1] * 1000 + math.floor(time[2] / 1000))
local NUMBERS = { 'v', 'seq', 'revision', 'attempt', 'max_attempts', 'lease_ms', 'not_before_ms', 'timeout_ms',
  'retention_ms', 'partials', 'partial_bytes' }
local WORDS = { 'id', 'kind', 'queue', 'principal', 'state', 'owner', 'ended_by', 'cancel', 'action', 'artifacts',
  'partial_last' }
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

-- Index of one caller's jobs. The length keeps the names apart, whatever characters they have.
local function index_of(principal)
  return P .. 'jobs:index:principal:' .. #principal .. ':' .. principal
end

local function waiting_of(queue, principal)
  return P .. 'jobs:waiting:' .. queue .. ':' .. #principal .. ':' .. principal
end

-- Keys of the indexes a job is in whatever its state, and of those it is in because of its state.
local function indexes(job)
  local lasting, by_state = {}, { P .. 'jobs:index:queue:' .. job.queue .. ':' .. job.state }
  if job.state == 'QUEUED' then by_state[2] = waiting_of(job.queue, job.principal) end
  for _, base in ipairs({ P .. 'jobs:index', index_of(job.principal) }) do
    for _, key in ipairs({ base, base .. ':kind:' .. job.kind }) do
      lasting[#lasting + 1] = key
      by_state[#by_state + 1] = key .. ':' .. job.state
    end
  end
  return lasting, by_state
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
    if redis.call('EXISTS', waiting_of(job.queue, job.principal)) == 0 then
      redis.call('ZREM', P .. 'jobs:turns:' .. job.queue, job.principal)
    end
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
  -- Whoever comes new waits for all others to be served once, and not for all their jobs.
  redis.call('ZADD', P .. 'jobs:turns:' .. job.queue, 'NX', redis.call('GET', P .. 'jobs:seq'), job.principal)
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

-- The worker fell silent: another may try, if attempts are left.
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

-- The job needs an artefact, and its caller may see it.
local function refer(digest, job)
  local owner = 'job/' .. job.id
  redis.call('SADD', P .. 'refs:' .. digest, owner)
  redis.call('SADD', P .. 'owned:' .. owner, digest)
  if job.principal == '' then return end
  redis.call('HSET', P .. 'owner-principals', owner, job.principal)
  redis.call('HSETNX', P .. 'held:' .. job.principal, digest, string.format('%.0f ', NOW))
  redis.call('SADD', P .. 'holders', job.principal)
end

-- Key of the job that does an action for one caller.
local function own_work(job)
  return P .. 'action:' .. job.action .. ':' .. job.principal
end

-- The job a key names, if this version may read it.
local function named(key)
  local id = redis.call('GET', key)
  local job = id and peek(id)
  if job and job.v <= SCHEMA then return job end
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
  redis.call('HDEL', P .. 'owner-principals', owner)
  redis.call('DEL', P .. 'owned:' .. owner, P .. 'partials:' .. job.id, job.key)
  if job.action ~= '' then
    for _, key in ipairs({ P .. 'action:' .. job.action, own_work(job) }) do
      if redis.call('GET', key) == job.id then redis.call('DEL', key) end
    end
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

-- Whether a worker is alive that serves a queue in one of these roles.
local function served(queue, ...)
  for _, role in ipairs({ ... }) do
    if redis.call('EXISTS', P .. 'queue:' .. queue .. ':' .. role) == 1 then return true end
  end
  return false
end

-- Why no more jobs may wait: "full" for everybody, "quota" for this caller; nil if they may.
local function refusal(principal)
  if redis.call('ZCARD', P .. 'jobs:index:QUEUED') >= a.queue_limit then return 'full' end
  if a.quota > 0 and redis.call('ZCARD', index_of(principal) .. ':QUEUED') >= a.quota then return 'quota' end
end

local T = {}

-- What every new record has, whether it will be queued or has its result already.
local function create(state)
  local job = { key = P .. 'job:' .. a.id, id = a.id, kind = a.kind, queue = a.queue, principal = a.principal,
    action = a.action, state = state, revision = 0, retention_ms = a.retention_ms,
    seq = redis.call('INCR', P .. 'jobs:seq'), not_before_ms = a.delay_ms > 0 and NOW + a.delay_ms or 0 }
  for _, digest in ipairs(a.inputs) do refer(digest, job) end
  for _, group in ipairs({ indexes(job) }) do
    for _, key in ipairs(group) do redis.call('ZADD', key, job.seq, job.id) end
  end
  if a.action ~= '' then redis.call('SET', own_work(job), a.id) end
  remember(a.id)
  return job, { v = SCHEMA, id = a.id, seq = job.seq, kind = a.kind, queue = a.queue, principal = a.principal,
    trace = a.trace, request_type = a.request_type, request = a.request, response_type = '', action = a.action,
    inputs = table.concat(a.inputs, ' '), attempt = 0, max_attempts = a.max_attempts,
    not_before_ms = job.not_before_ms, timeout_ms = a.timeout_ms, retention_ms = a.retention_ms, create_ms = NOW }
end

-- A record of this caller's own that has the result of another's job, with its artefacts and partial results.
local function share(source)
  local job, fields = create('SUCCEEDED')
  local copied = { 'response_type', 'response', 'artifacts', 'stage', 'done', 'total', 'fraction', 'worker',
    'partials', 'partial_bytes' }
  for i, value in ipairs(redis.call('HMGET', source.key, unpack(copied))) do
    if value then fields[copied[i]] = value end
  end
  for _, digest in ipairs(redis.call('SMEMBERS', P .. 'owned:job/' .. source.id)) do refer(digest, job) end
  redis.call('COPY', P .. 'partials:' .. source.id, P .. 'partials:' .. job.id)
  conclude(job, 'SUCCEEDED', fields, 'shared')
end

-- ok record | reused id | full | quota | collecting digest
function T.submit()
  local id, differs = repeated()
  if differs then return { 'reused', id } end
  if id then return record(id) end
  if redis.call('EXISTS', P .. 'job:' .. a.id) == 1 then return record(a.id) end -- the answer was lost, not the job
  local source
  if a.action ~= '' and not a.skip_cache then
    local own = named(own_work(a))
    if own and (own.state == 'SUCCEEDED' or (not TERMINAL[own.state] and own.cancel ~= '1')) then
      remember(own.id)
      return record(own.id)
    end
    source = named(P .. 'action:' .. a.action)
    if source and source.state ~= 'SUCCEEDED' then source = nil end
  end
  local refused = not source and refusal(a.principal)
  if refused then return { refused } end
  for _, digest in ipairs(a.inputs) do
    if redis.call('SISMEMBER', P .. 'collecting', digest) == 1 then return { 'collecting', digest } end
  end
  if source then
    share(source)
  else
    local job, fields = create('QUEUED')
    enqueue(job, fields, NOW + HINT_INTERVAL)
  end
  return record(a.id)
end

-- The job of a queue whose turn it is: the oldest due one of the caller who was served longest ago.
local function next_of(queue)
  local turns = P .. 'jobs:turns:' .. queue
  for _, principal in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
    local ids = redis.call('ZRANGE', waiting_of(queue, principal), 0, DELAYED)
    for _, id in ipairs(ids) do
      local job = peek(id)
      if job and job.v <= SCHEMA and job.state == 'QUEUED' and job.not_before_ms <= NOW then return job end
    end
  end
end

-- How many jobs of a queue a worker runs now.
local function lane_of(worker, queue)
  local count = 0
  for _, id in ipairs(redis.call('ZRANGE', P .. 'jobs:index:queue:' .. queue .. ':RUNNING', 0, -1)) do
    if redis.call('HGET', P .. 'job:' .. id, 'worker') == worker then count = count + 1 end
  end
  return count
end

-- ok record | refused state | missing
-- With a.fair the job names its queue only: whose turn it is there gets the worker. With a.lane the worker runs no more
-- jobs of one queue than that, so that those of another find a process.
function T.claim()
  local taken = a.fair and redis.call('GET', P .. 'taken:' .. a.owner)
  if taken then return record(taken) end -- the answer was lost
  local job = load(a.id)
  if not job then return { 'missing' } end
  if job.state == 'RUNNING' and job.owner == a.owner then return record(a.id) end -- the answer was lost
  if redis.call('EXISTS', P .. 'drain:' .. a.worker) == 1 then
    if job.state == 'QUEUED' then redis.call('ZADD', P .. 'jobs:hints', 'XX', NOW, a.id) end
    return { 'refused', 'DRAINING' }
  end
  if job.state == 'QUEUED' and a.standby[job.queue] and served(job.queue, 'own') then
    redis.call('ZADD', P .. 'jobs:hints', 'XX', NOW, a.id)
    return { 'refused', 'STANDBY' }
  end
  if a.lane and lane_of(a.worker, job.queue) >= a.lane then
    if job.state == 'QUEUED' then redis.call('ZADD', P .. 'jobs:hints', 'XX', NOW, a.id) end
    return { 'refused', 'LANE' }
  end
  -- Lapsed leases are the sweep's to judge; a claim only does it where no sweep seems to run.
  if job.state == 'RUNNING' and job.lease_ms + a.lease_ms <= NOW then lapse(job) end
  if a.fair then job = next_of(job.queue) or job end
  if job.state ~= 'QUEUED' or job.not_before_ms > NOW then return { 'refused', job.state } end
  count('attempts ' .. job.kind)
  if a.fair then redis.call('SET', P .. 'taken:' .. a.owner, job.id, 'PX', a.lease_ms) end
  redis.call('ZREM', P .. 'jobs:hints', job.id)
  redis.call('ZADD', P .. 'jobs:leases', NOW + a.lease_ms, job.id)
  if job.timeout_ms > 0 then redis.call('ZADD', P .. 'jobs:timeouts', NOW + job.timeout_ms, job.id) end
  change(job, { state = 'RUNNING', attempt = job.attempt + 1, owner = a.owner, worker = a.worker,
    lease_ms = NOW + a.lease_ms, start_ms = NOW })
  redis.call('ZADD', P .. 'jobs:turns:' .. job.queue, 'XX', redis.call('INCR', P .. 'jobs:seq'), job.principal)
  return record(job.id)
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
  refer(a.digest, job)
  if not string.find(' ' .. job.artifacts .. ' ', ' ' .. a.digest .. ' ', 1, true) then
    change(job, { artifacts = job.artifacts == '' and a.digest or job.artifacts .. ' ' .. a.digest })
  end
  return { 'ok' }
end

-- ok | lost
function T.partial()
  local job = held()
  if not job then return { 'lost' } end
  local mark = a.owner .. ' ' .. string.format('%.0f', a.number)
  if job.partial_last == mark then return { 'ok' } end -- the answer was lost, not the partial result
  local key = P .. 'partials:' .. job.id
  local entry = cjson.encode({ type = a.type, value = a.value, attempt = job.attempt, ms = NOW })
  local count, bytes = redis.call('RPUSH', key, entry), job.partial_bytes + #entry
  while count > PARTIALS or bytes > PARTIAL_BYTES do
    bytes, count = bytes - #redis.call('LPOP', key), count - 1
  end
  change(job, { partials = job.partials + 1, partial_bytes = bytes, partial_last = mark })
  return { 'ok' }
end

-- ok first, then the kept partial results after sequence number a.since, of which the first has number first | missing
function T.partials()
  local job = load(a.id)
  if not job then return { 'missing' } end
  local key = P .. 'partials:' .. a.id
  local before = job.partials - redis.call('LLEN', key) -- those no longer kept
  local skipped = math.max(0, a.since - before)
  local reply = redis.call('LRANGE', key, skipped, -1)
  table.insert(reply, 1, before + skipped + 1)
  table.insert(reply, 1, 'ok')
  return reply
end

-- ok record | lost
function T.finish()
  local job, other = held()
  if job then
    a.fields.ended_by = a.owner
    conclude(job, a.state, a.fields)
    if a.state == 'SUCCEEDED' and job.action ~= '' then redis.call('SET', P .. 'action:' .. job.action, job.id) end
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
    local fields = { attempt = job.attempt - 1 }
    if a.delay_ms > 0 then fields.not_before_ms = NOW + a.delay_ms end
    enqueue(job, fields, NOW)
  end
  return record(a.id)
end

-- ok record | missing | refused state
-- A job that waits is not run for a.delay_ms from now; 0 makes it due at once.
function T.defer()
  local job = load(a.id)
  if not job then return { 'missing' } end
  if job.state ~= 'QUEUED' then return { 'refused', job.state } end
  change(job, { not_before_ms = a.delay_ms > 0 and NOW + a.delay_ms or 0 })
  redis.call('ZADD', P .. 'jobs:hints', NOW + a.delay_ms, job.id)
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
  redis.call('DEL', P .. 'partials:' .. job.id) -- their numbering goes on, so that who watches misses nothing new
  enqueue(job, { attempt = 0, not_before_ms = 0, partial_bytes = 0 }, NOW + HINT_INTERVAL)
  if job.action ~= '' then redis.call('SET', own_work(job), job.id, 'NX') end
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

-- ok lapsed timed_out forgotten more, then id and queue of each job to announce. Any number may sweep at once.
-- more: "1" if there were as many of some kind as one sweep looks at.
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
  local reply, room = { 'ok', #lapsed, #timed_out, #forgotten, '' }, {}
  local waiting = due('hints') -- after the lapsed ones have joined it
  if math.max(#lapsed, #timed_out, #forgotten, #waiting) >= a.limit then reply[5] = '1' end
  for _, job in ipairs(waiting) do
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

-- ok more, then records, newest first, older than seq a.before (0: from the newest); of one caller if a.principal is set
function T.list()
  local key = a.principal and index_of(a.principal) or P .. 'jobs:index'
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

-- ok counters, then for each of a.queues: queued, running, milliseconds the oldest queued has waited, served (0 or 1)
function T.stats()
  local reply = { 'ok', redis.call('HGETALL', P .. 'jobs:counters') }
  for _, queue in ipairs(a.queues) do
    local key = P .. 'jobs:index:queue:' .. queue
    local oldest = redis.call('ZRANGE', key .. ':QUEUED', 0, 0)[1]
    local since = oldest and tonumber(redis.call('HGET', P .. 'job:' .. oldest, 'update_ms')) or NOW
    reply[#reply + 1] = redis.call('ZCARD', key .. ':QUEUED')
    reply[#reply + 1] = redis.call('ZCARD', key .. ':RUNNING')
    reply[#reply + 1] = NOW - since
    reply[#reply + 1] = served(queue, 'own', 'standby') and 1 or 0
  end
  return reply
end

local fine, reply = pcall(T[ARGV[1]])
if fine then return reply end
if type(reply) == 'table' and reply.newer then return { 'newer', reply.newer } end
error(reply)
