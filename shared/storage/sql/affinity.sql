-- Which fetcher keeps a mailbox's session open, and which fetchers live.

-- name: heartbeat
-- The first one promises nothing: a fetcher that was taken for dead may have to notice that its queue
-- was deleted. A consumer at RabbitMQ never does if the queue is made again at that moment.
INSERT INTO fetcher AS f (owner, until, takes_jobs_until)
VALUES (%(owner)s, now() + make_interval(secs => %(ttl)s), '-infinity')
ON CONFLICT (owner) DO UPDATE
SET until = excluded.until,
    takes_jobs_until = CASE WHEN %(takes_jobs)s THEN now() + make_interval(secs => %(grace)s)
                            ELSE f.takes_jobs_until END
RETURNING xmax <> 0;

-- name: take_no_more
UPDATE fetcher SET takes_jobs_until = least(takes_jobs_until, clock_timestamp())
WHERE owner = %(owner)s;

-- name: named
-- Which fetchers mailboxes have an affinity to. Few have very many, so the index is asked for one name
-- after the other.
named (owner) AS (
    SELECT min(affinity) FROM connection_state WHERE affinity IS NOT NULL
    UNION ALL
    SELECT (SELECT min(s.affinity) FROM connection_state AS s WHERE s.affinity > n.owner)
    FROM named AS n WHERE n.owner IS NOT NULL
)

-- name: is_lost
-- Whether a fetcher is silent or dead, or mailboxes have an affinity to one that is no more.
WITH RECURSIVE {named}
SELECT EXISTS (SELECT FROM fetcher WHERE least(until, takes_jobs_until) < now())
    OR EXISTS (SELECT FROM named AS n WHERE n.owner IS NOT NULL
               AND NOT EXISTS (SELECT FROM fetcher AS f WHERE f.owner = n.owner))

-- name: make_due_again
-- Jobs that a fetcher did not take from its queue in time. Those that are sent from now on go to the
-- common queue, so each comes here once.
WITH late AS (
    SELECT s.connection_id
    FROM fetcher AS f JOIN connection_state AS s ON s.affinity = f.owner
    WHERE f.takes_jobs_until < now() AND s.lane = 'fetch'
      AND s.emitted_at <= f.takes_jobs_until
      AND (s.last_run_at IS NULL OR s.last_run_at < s.emitted_at)
      AND s.due_at > now()
    ORDER BY s.connection_id
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE connection_state AS s SET due_at = now()
FROM late WHERE s.connection_id = late.connection_id;

-- name: delete_dead
-- Waits for whoever sends jobs to such a fetcher at this moment (claim_due).
DELETE FROM fetcher WHERE until < now() RETURNING owner;

-- name: release_orphaned
-- Mailboxes of fetchers that are no more. Those whose jobs went with their queue are due at once.
-- Those with push are polled soon, as nobody listens there; not all in one moment.
WITH RECURSIVE {named}, orphaned AS (
    SELECT connection_id FROM connection_state
    WHERE affinity IN (SELECT n.owner FROM named AS n WHERE n.owner IS NOT NULL
                       AND NOT EXISTS (SELECT FROM fetcher AS f WHERE f.owner = n.owner))
    ORDER BY connection_id
    FOR UPDATE SKIP LOCKED
)
UPDATE connection_state AS s
SET affinity = NULL,
    due_at = CASE WHEN s.lane = 'fetch' AND s.emitted_at IS NOT NULL
                       AND (s.last_run_at IS NULL OR s.last_run_at < s.emitted_at)
                  THEN least(s.due_at, now())
                  WHEN c.push THEN least(s.due_at, now() + make_interval(secs => 5 * random()))
                  ELSE s.due_at END
FROM orphaned AS h JOIN connection AS c ON c.id = h.connection_id
WHERE s.connection_id = h.connection_id AND s.due_at IS NOT NULL
RETURNING s.connection_id;

-- name: delete
DELETE FROM fetcher WHERE owner = %(owner)s;

-- name: release
WITH released AS (
    SELECT connection_id FROM connection_state
    WHERE connection_id = ANY(%(ids)s) AND affinity = %(owner)s
    ORDER BY connection_id
    FOR UPDATE SKIP LOCKED
)
UPDATE connection_state AS s
SET affinity = NULL,
    due_at = CASE WHEN c.push THEN least(s.due_at, now() + make_interval(secs => 5 * random()))
                  ELSE s.due_at END
FROM released AS l JOIN connection AS c ON c.id = l.connection_id
WHERE s.connection_id = l.connection_id;

-- name: held
-- The mailboxes whose sessions a fetcher keeps and is still to keep, with their last edit.
SELECT s.connection_id, c.updated_at
FROM connection_state AS s JOIN connection AS c ON c.id = s.connection_id
WHERE s.affinity = %(owner)s AND c.enabled AND EXISTS (
    SELECT FROM handler AS h
    WHERE h.enabled AND (h.all_connections OR EXISTS (
        SELECT FROM handler_connection AS hc
        WHERE hc.handler_id = h.id AND hc.connection_id = s.connection_id)));

-- name: note_crowded
INSERT INTO crowded_host (host, at) VALUES (%(host)s, now())
ON CONFLICT (host) DO UPDATE SET at = excluded.at;

-- name: others_keep
SELECT EXISTS (
    SELECT FROM connection_state AS s JOIN connection AS c ON c.id = s.connection_id
    WHERE s.affinity <> %(owner)s AND lower(c.host) = %(host)s);

-- name: crowded
SELECT host FROM crowded_host WHERE at > now() - make_interval(secs => %(seconds)s);

-- name: share
-- How many mailboxes this fetcher has, all have together, and how many fetchers there are.
SELECT count(*) FILTER (WHERE affinity = %(owner)s), count(*),
       (SELECT count(*) FROM fetcher WHERE until > now())
FROM connection_state WHERE affinity IS NOT NULL;
