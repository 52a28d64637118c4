-- The state of all connections and queues in a few numbers, whatever their count.

-- name: by_health
-- After connections.judged.
SELECT health, count(*) FROM judged GROUP BY health

-- name: throttled
-- The code is that of `shared.mailbox.errors.diagnoses.THROTTLED`.
SELECT c.mode, count(*)
FROM connection_state s JOIN connection c ON c.id = s.connection_id
WHERE s.health = 'failing' AND s.due_at IS NOT NULL AND s.error ->> 'code' = 'throttled'
GROUP BY c.mode

-- name: success_ages
-- Seconds since the last success of what is enabled, counted into buckets by their upper bounds;
-- a connection that never succeeded counts from when it was made.
SELECT width_bucket(s.age, %(bounds)s::float8[]) AS bucket, count(*), sum(s.age)::float8
FROM (
    SELECT greatest(0, extract(epoch FROM now() - coalesce(s.last_success_at, c.created_at)))::float8
        AS age
    FROM connection_state s JOIN connection c ON c.id = s.connection_id
    WHERE s.due_at IS NOT NULL
) s
GROUP BY bucket

-- name: oldest_successes
SELECT c.id, c.name,
       greatest(0, extract(epoch FROM now() - coalesce(s.last_success_at, c.created_at)))::float8
FROM connection_state s JOIN connection c ON c.id = s.connection_id
WHERE s.due_at IS NOT NULL
ORDER BY coalesce(s.last_success_at, c.created_at), c.id
LIMIT %(limit)s

-- name: oldest_pending
-- Ids begin with their time, so the smallest is the oldest.
SELECT o.connection_id, coalesce(c.name, ''), o.first
FROM (
    SELECT connection_id, min(message_id::text)::uuid AS first FROM outbox
    GROUP BY connection_id ORDER BY 2 LIMIT %(limit)s
) o
LEFT JOIN connection c ON c.id = o.connection_id

-- name: totals
SELECT
    (SELECT count(*) FROM outbox),
    (SELECT message_id FROM outbox ORDER BY message_id LIMIT 1),
    (SELECT count(*) FROM settlement AS t JOIN connection AS c ON c.id = t.connection_id
     WHERE t.folder = c.folder),
    (SELECT t.message_id FROM settlement AS t JOIN connection_state AS s USING (connection_id)
     JOIN connection AS c ON c.id = s.connection_id
     WHERE s.due_at IS NOT NULL AND t.folder = c.folder
       AND t.uid_validity = coalesce(s.uid_validity, 0)
     ORDER BY t.message_id LIMIT 1),
    (SELECT count(*) FROM quarantine)

-- name: handlers
SELECT h.name, q.backlog, greatest(0, extract(epoch FROM now() - q.oldest_at))::float8, q.dead
FROM handler h JOIN handler_queue q ON q.handler_id = h.id
WHERE h.enabled
ORDER BY q.backlog DESC, h.name
LIMIT %(limit)s

-- name: chores
SELECT name, extract(epoch FROM now() - started_at)::float8 FROM chore ORDER BY name
