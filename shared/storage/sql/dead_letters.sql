-- The dead letters of handlers, and what became of them.

-- name: is_new
-- Whether the dead letters are others than those that were listed.
SELECT dead_listed IS DISTINCT FROM %(dead)s::bigint FROM handler_queue WHERE handler_id = %(id)s;

-- name: record_count
UPDATE handler_queue SET dead_listed = %(dead)s, dead = %(dead)s WHERE handler_id = %(id)s;

-- name: add
-- Each stays on the path of its mail, whatever becomes of it.
WITH found AS (
    INSERT INTO dead_letter (handler_id, message_id, died_at, reason, deliveries, given_up)
    SELECT %(id)s, message_id, died_at, reason, deliveries, given_up
    FROM unnest(%(messages)s::uuid[], %(died)s::timestamptz[], %(reasons)s::text[],
                %(deliveries)s::integer[], %(given_up)s::boolean[])
         AS l(message_id, died_at, reason, deliveries, given_up)
    WHERE EXISTS (SELECT FROM message WHERE message.id = l.message_id)
    ON CONFLICT DO NOTHING
    RETURNING *
)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT f.message_id,
       -- RabbitMQ knows whole seconds, and every broker has its own clock.
       greatest(f.died_at, (SELECT d.published_at + interval '1 microsecond' FROM delivery AS d
                            WHERE d.message_id = f.message_id AND d.handler_id = f.handler_id)),
       CASE WHEN f.given_up THEN 'given-up' ELSE 'rejected' END, f.handler_id,
       jsonb_build_object('reason', f.reason, 'deliveries', f.deliveries)
FROM found AS f;

-- name: end
-- `kept`: (message, died_at) that are still there; `ended`: these mails' are not. One of both.
WITH gone AS (
    DELETE FROM dead_letter AS d
    WHERE d.handler_id = %(id)s AND CASE WHEN %(ended)s::uuid[] IS NOT NULL
        THEN d.message_id = ANY(%(ended)s::uuid[])
        ELSE NOT EXISTS (
            SELECT FROM unnest(%(messages)s::uuid[], %(died)s::timestamptz[]) AS l(message_id, died_at)
            WHERE l.message_id = d.message_id AND l.died_at = d.died_at) END
    RETURNING d.message_id, d.handler_id, d.reason
)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT DISTINCT message_id, now(),
       -- What was published since it was rejected went back into the queue, and nobody noted that.
       CASE WHEN %(ended)s::uuid[] IS NULL AND (
           SELECT d.published_at FROM delivery AS d
           WHERE d.message_id = gone.message_id AND d.handler_id = gone.handler_id) > (
           SELECT max(y.at) FROM message_history AS y
           WHERE y.message_id = gone.message_id AND y.handler_id = gone.handler_id
             AND y.what IN ('rejected', 'given-up')) THEN 'delivered-again' ELSE %(what)s END,
       handler_id, jsonb_build_object('reason', reason)
FROM gone;

-- name: keep_delivered_again
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, published_at, 'published', handler_id, jsonb_build_object(
    'position', position, 'note', note, 'redelivery', redelivery)
FROM delivery WHERE handler_id = %(id)s AND message_id = ANY(%(messages)s::uuid[]);

-- name: mark_published
UPDATE delivery SET published_at = clock_timestamp(), position = '', repeats = repeats + 1
WHERE handler_id = %(id)s AND message_id = ANY(%(messages)s::uuid[]);

-- name: record_delivered_again
UPDATE delivery AS d SET position = p.position
FROM unnest(%(messages)s::uuid[], %(positions)s::text[]) AS p(message_id, position)
WHERE d.handler_id = %(id)s AND d.message_id = p.message_id
  AND d.message_id = ANY(%(messages)s::uuid[]);

-- name: reasons
-- How many dead letters have which reason, the most first.
SELECT reason, count(*), bool_and(given_up) FROM dead_letter WHERE handler_id = %(id)s
GROUP BY reason ORDER BY 2 DESC, 1 LIMIT %(limit)s;
