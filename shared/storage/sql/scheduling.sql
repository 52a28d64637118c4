-- What is due, and how a run ends.

-- name: is_due
-- Reads one entry of the index, whatever Postgres knows of the table's size.
SELECT (SELECT due_at FROM connection_state WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1) <= now()

-- name: claim_due
-- The most overdue connections, moved to when they are due next. A connection that fell behind gets a
-- random phase, so that not all of them are due at once after an outage. `used` is false where no
-- enabled handler takes the connection: nothing is fetched for it.
-- The last column is the fetcher whose own queue gets the job: it keeps the session open and takes jobs.
-- Its row stays until the job is sent: whoever deletes it deletes the queue after that.
-- `fresh`: the interval made it due (`interval_due_at`), nobody asked for a run, and one that began in the
-- second half of the interval, as the server pushed, has looked at all that there is. It is due an interval
-- after that, and nothing is sent now.
WITH due AS (
    SELECT connection_id, due_at, emitted_at,
           CASE WHEN lane = 'fetch' THEN affinity END AS affinity,
           CASE WHEN due_at = interval_due_at AND lane = 'fetch' AND health = 'working'
                     AND last_run_at = last_success_at
                THEN last_run_at - make_interval(secs => last_run_ms / 1000.0) END AS looked_at
    FROM connection_state
    WHERE due_at <= now()
    ORDER BY due_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), taking AS (
    SELECT owner FROM fetcher
    WHERE owner IN (SELECT affinity FROM due) AND takes_jobs_until > now()
    FOR KEY SHARE
), judged AS (
    SELECT due.*, taking.owner, step, coalesce(
               c.push AND taking.owner IS NOT NULL AND due.looked_at <= now()
               AND due.looked_at > greatest(due.emitted_at, now() - step) + step / 2, false) AS fresh
    FROM due LEFT JOIN taking ON taking.owner = due.affinity
    JOIN connection AS c ON c.id = due.connection_id,
    LATERAL (SELECT make_interval(mins => c.interval_minutes) AS step) AS every
), next_due AS MATERIALIZED (
    SELECT *, CASE WHEN fresh THEN looked_at + step
                   ELSE greatest(due_at + step, now() + step * random()) END AS next_at
    FROM judged
)
UPDATE connection_state AS s
SET emitted_at = CASE WHEN next_due.fresh THEN s.emitted_at ELSE now() END,
    due_at = next_due.next_at, interval_due_at = next_due.next_at
FROM next_due
WHERE s.connection_id = next_due.connection_id
RETURNING s.connection_id, s.lane, now(), EXISTS (
    SELECT FROM handler AS h
    WHERE h.enabled AND (h.all_connections OR EXISTS (
        SELECT FROM handler_connection AS hc
        WHERE hc.handler_id = h.id AND hc.connection_id = s.connection_id))
) AS used, extract(epoch FROM now() - next_due.due_at)::double precision, next_due.owner, next_due.fresh;

-- name: enable
-- Due at once; an edit or a new start also ends any back-off.
UPDATE connection_state
SET due_at = now(), awaited_since = now(), put_off_until = NULL, failures = 0, lane = 'fetch',
    health = CASE WHEN health = 'working' THEN health ELSE 'pending' END
WHERE connection_id = %(id)s;

-- name: disable
UPDATE connection_state SET due_at = NULL, failures = 0, lane = 'fetch', affinity = NULL
WHERE connection_id = %(id)s;

-- name: make_due
-- `fetch now`, push and slices: only for connections that are enabled.
UPDATE connection_state
SET due_at = least(due_at, now() + make_interval(secs => %(delay)s)), interval_due_at = NULL
WHERE connection_id = ANY(%(ids)s) AND due_at IS NOT NULL;

-- name: make_due_in
-- The server wants time between two logins. Where it has refused them for three times as long, another
-- program logs in each time: the run is awaited.
UPDATE connection_state
SET due_at = now() + make_interval(secs => %(seconds)s),
    put_off_until = least(now() + make_interval(secs => %(seconds)s),
                          greatest(last_success_at, awaited_since)
                          + make_interval(secs => 3 * %(seconds)s))
WHERE connection_id = %(id)s AND due_at IS NOT NULL;

-- name: make_due_for_handler
-- Connections that nobody but this handler takes: they waited for it. Many begin one after the
-- other, 200 a second. One that is locked is being claimed right now.
WITH waited AS (
    SELECT s.connection_id FROM connection_state AS s
    WHERE s.due_at IS NOT NULL
      AND EXISTS (
        SELECT FROM handler AS h
        WHERE h.id = %(handler_id)s AND h.enabled AND (h.all_connections OR EXISTS (
            SELECT FROM handler_connection AS hc
            WHERE hc.handler_id = h.id AND hc.connection_id = s.connection_id)))
      AND NOT EXISTS (
        SELECT FROM handler AS h
        WHERE h.id <> %(handler_id)s AND h.enabled AND (h.all_connections OR EXISTS (
            SELECT FROM handler_connection AS hc
            WHERE hc.handler_id = h.id AND hc.connection_id = s.connection_id)))
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE connection_state AS s
SET awaited_since = now(), interval_due_at = NULL, due_at = least(s.due_at, now() + make_interval(
    secs => (SELECT count(*) FROM waited) / 200.0 * random()))
FROM waited WHERE s.connection_id = waited.connection_id;

-- name: end_back_off
-- As `enable`, for those that log in with it: those that failed begin one after the other, 200 a second.
-- One that is locked is being claimed right now.
WITH users AS (
    SELECT s.connection_id, s.health IN ('failing', 'needs-authorisation') AS failed
    FROM connection AS c JOIN connection_state AS s ON s.connection_id = c.id
    WHERE c.credential_id = %(credential_id)s AND s.due_at IS NOT NULL
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE connection_state AS s
SET awaited_since = now(), failures = 0,
    lane = CASE WHEN u.failed THEN 'fetch' ELSE s.lane END,
    health = CASE WHEN u.failed THEN 'pending' ELSE s.health END,
    due_at = CASE WHEN u.failed THEN least(s.due_at, now() + make_interval(
        secs => (SELECT count(*) FROM users) / 200.0 * random())) ELSE s.due_at END
FROM users AS u WHERE s.connection_id = u.connection_id;

-- name: make_due_after_clock_change
-- What was recorded in time to come happened just now: a run, or that its turn was given to a job that
-- nobody did. (Of null and a time `least` would take the time.)
UPDATE connection_state
SET last_run_at = CASE WHEN last_run_at > now() THEN now() ELSE last_run_at END,
    last_success_at = CASE WHEN last_success_at > now() THEN now() ELSE last_success_at END,
    emitted_at = CASE WHEN emitted_at > now() THEN now() ELSE emitted_at END,
    due_at = CASE WHEN due_at > now() THEN now() ELSE due_at END,
    awaited_since = least(awaited_since, now()),
    put_off_until = NULL
WHERE greatest(last_run_at, last_success_at, emitted_at, awaited_since)
      > now() + interval '1 minute';

-- name: free_mails
-- A decryptor that died had them, or they were to be tried again a while later. Who lives renews.
UPDATE outbox
SET claimed_until = least(claimed_until, now() + interval '1 hour'),
    next_attempt_at = least(next_attempt_at, now() + interval '15 minutes')
WHERE claimed_until > now() + interval '1 hour' OR next_attempt_at > now() + interval '15 minutes';

-- name: doubt_fetchers
-- Who lives says so in a moment.
UPDATE fetcher
SET until = least(until, now() + interval '15 minutes'),
    takes_jobs_until = least(takes_jobs_until, now() + make_interval(secs => %(grace)s))
WHERE until > now() + interval '15 minutes'
   OR takes_jobs_until > now() + make_interval(secs => %(grace)s);

-- name: move_to_slow_lane
-- Their sessions are gone or keep us waiting: whoever has time to wait opens new ones.
UPDATE connection_state
SET lane = 'fetch-slow', affinity = NULL, due_at = least(due_at, now())
WHERE connection_id = ANY(%(ids)s) AND due_at IS NOT NULL;

-- name: fail_run
-- Returns the health before, so that a transition can be told from a repetition. Nothing where another
-- run is awaited since this one began.
WITH before AS (
    SELECT connection_id, health FROM connection_state
    WHERE connection_id = %(id)s AND awaited_since = %(awaited_since)s FOR UPDATE
)
UPDATE connection_state AS s
SET last_run_at = now(),
    last_run_ms = %(duration_ms)s,
    health = %(health)s,
    error = %(error)s,
    failures = s.failures + 1,
    lane = 'fetch-slow',
    affinity = NULL,
    due_at = CASE WHEN s.due_at IS NULL THEN NULL
                  ELSE now() + make_interval(secs => %(delay)s) END
FROM before
WHERE s.connection_id = before.connection_id
RETURNING before.health, s.failures;

-- name: record_pruning
UPDATE connection_state SET pruned_at = now() WHERE connection_id = %(id)s;

-- name: record_push_silence
UPDATE connection_state SET push_silent = %(silent)s
WHERE connection_id = %(id)s AND push_silent <> %(silent)s

-- name: is_push_silent
SELECT push_silent FROM connection_state WHERE connection_id = %(id)s
