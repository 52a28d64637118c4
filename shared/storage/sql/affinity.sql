-- Which fetcher keeps a mailbox's session open, and which fetchers live.

-- name: heartbeat
INSERT INTO fetcher (owner, until) VALUES (%(owner)s, now() + make_interval(secs => %(ttl)s))
ON CONFLICT (owner) DO UPDATE SET until = excluded.until;

-- name: delete_dead
DELETE FROM fetcher WHERE until < now();

-- name: release_orphaned
-- Mailboxes of fetchers that are no more. Those with push are polled soon, as nobody listens there;
-- not all in one moment.
WITH orphaned AS (
    SELECT connection_id FROM connection_state
    WHERE affinity IS NOT NULL AND affinity NOT IN (SELECT owner FROM fetcher)
    ORDER BY connection_id
    FOR UPDATE SKIP LOCKED
)
UPDATE connection_state AS s
SET affinity = NULL,
    due_at = CASE WHEN c.push THEN least(s.due_at, now() + make_interval(secs => 5 * random()))
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

-- name: shared_mailboxes
-- Sessions that fetchers keep at mailboxes where there is more than one, in one order for all who ask.
SELECT min(c.mode), lower(c.host), min(c.host_override),
       lower(coalesce(nullif(c.shared_mailbox, ''), c.username)),
       array_agg(s.connection_id ORDER BY s.connection_id),
       array_agg(s.affinity ORDER BY s.connection_id)
FROM connection_state AS s JOIN connection AS c ON c.id = s.connection_id
WHERE s.affinity IS NOT NULL
GROUP BY c.mode, lower(c.host), lower(c.host_override),
         lower(coalesce(nullif(c.shared_mailbox, ''), c.username))
HAVING count(*) >= least(2, %(most)s);

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
