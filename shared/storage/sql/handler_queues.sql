-- How far each handler's queue is acknowledged: what is needed to fill a lost one again.

-- name: lock
-- One checker a handler: others skip it.
SELECT output, generation, incarnation, restarted_at, acknowledged, watermark, created_at, now()
FROM handler_queue
WHERE handler_id = %(id)s FOR UPDATE SKIP LOCKED;

-- name: handlers
SELECT id, name, enabled FROM handler ORDER BY id;

-- name: recent_positions
-- Confirmed positions since the queue was created; the highest must still be there.
SELECT position FROM delivery
WHERE handler_id = %(id)s AND published_at > %(since)s AND position <> ''
ORDER BY published_at DESC LIMIT 500;

-- name: has_published
SELECT EXISTS (SELECT FROM delivery WHERE handler_id = %(id)s AND published_at >= %(since)s);

-- name: unacknowledged_positions
-- Confirmed positions that are not known to be acknowledged, and some that are.
SELECT position FROM delivery
WHERE handler_id = %(id)s AND published_at >= %(since)s AND position <> '';

-- name: record_restart
-- Another run of the broker: the watermark stays until late records of the old one are in.
UPDATE handler_queue
SET restarted_at = coalesce(restarted_at, now()), checked_at = now()
WHERE handler_id = %(id)s;

-- name: published_at
SELECT published_at FROM delivery WHERE message_id = %(message_id)s AND handler_id = %(id)s;

-- name: record_creation
-- Noted before the queue is created: a queue of another generation is one that was lost.
UPDATE handler_queue
SET output = %(output)s, generation = %(generation)s, created_at = now(),
    incarnation = '', restarted_at = NULL, acknowledged = '', read_position = '', in_hand = '[]'
WHERE handler_id = %(id)s;

-- name: record_observation
-- What a look told of who reads a queue. An event that stays in hand at a consumer is there since it was
-- first seen there: its idle time starts anew with each sign of life of the consumer.
UPDATE handler_queue AS q
SET consumers = %(consumers)s,
    in_hand = (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'position', i.position, 'consumer', i.consumer, 'deliveries', i.deliveries,
            'since', coalesce(
                (SELECT one ->> 'since' FROM jsonb_array_elements(q.in_hand) AS one
                 WHERE one ->> 'position' = i.position AND one ->> 'consumer' = i.consumer),
                to_jsonb(now() - make_interval(secs => i.idle_s)) #>> '{}')) ORDER BY i.number), '[]')
        FROM unnest(%(positions)s::text[], %(holders)s::text[], %(idle)s::double precision[],
                    %(deliveries)s::integer[]) WITH ORDINALITY
             AS i(position, consumer, idle_s, deliveries, number)),
    -- Brokers do not count before the first one; nothing is known of before the first look.
    last_acknowledged_at = CASE WHEN q.checked_at IS NOT NULL
                                 AND coalesce(q.acknowledgements, 0) < %(acknowledgements)s::bigint
                                THEN now() ELSE q.last_acknowledged_at END,
    acknowledgements = %(acknowledgements)s::bigint, read_position = %(read_position)s
WHERE q.handler_id = %(id)s;

-- name: hold
-- Nobody else looks at the queue meanwhile.
SELECT FROM handler_queue WHERE handler_id = %(id)s FOR UPDATE;

-- name: oldest_by_position
-- Of the mails that the queue still has and nobody has in hand, the oldest, where it tells by
-- positions (Redis): up to `acknowledged` all are, and up to `read_position` all but those in hand.
WITH queue AS MATERIALIZED (
    SELECT watermark, position_order(acknowledged) AS acknowledged,
           position_order(read_position) AS read,
           ARRAY(SELECT one ->> 'position' FROM jsonb_array_elements(in_hand) AS one) AS held
    FROM handler_queue WHERE handler_id = %(id)s AND acknowledged || read_position <> ''
), oldest AS MATERIALIZED (
    SELECT d.message_id, d.published_at, d.position FROM delivery AS d, queue AS q
    WHERE d.handler_id = %(id)s AND d.published_at >= (SELECT watermark FROM queue)
      AND position_order(d.position) > q.acknowledged
      AND position_order(d.position) > q.read AND d.position <> ALL (q.held)
    ORDER BY d.published_at LIMIT %(limit)s
)
SELECT o.message_id, m.subject, m.sender, o.published_at, o.position
FROM oldest AS o LEFT JOIN message AS m ON m.id = o.message_id
ORDER BY o.published_at;

-- name: oldest_by_count
-- Where the queue counts alone: the last events that were published wait, or are in hand.
WITH oldest AS MATERIALIZED (
    SELECT message_id, published_at, position FROM delivery
    WHERE handler_id = %(id)s
      AND published_at >= (SELECT watermark FROM handler_queue
                           WHERE handler_id = %(id)s AND acknowledged || read_position = '')
    ORDER BY published_at DESC
    OFFSET greatest(0, (SELECT backlog FROM handler_queue WHERE handler_id = %(id)s) - %(limit)s)
    LIMIT least(%(limit)s, (SELECT backlog FROM handler_queue WHERE handler_id = %(id)s))
)
SELECT o.message_id, m.subject, m.sender, o.published_at, o.position
FROM oldest AS o LEFT JOIN message AS m ON m.id = o.message_id
ORDER BY o.published_at;

-- name: in_hand
-- What consumers have in hand, with its mail. All deliveries are gone through once for it.
WITH held AS MATERIALIZED (
    SELECT q.handler_id, q.watermark, e.one, e.number
    FROM handler_queue AS q
    CROSS JOIN jsonb_array_elements(q.in_hand) WITH ORDINALITY AS e(one, number)
    WHERE q.handler_id = %(id)s ORDER BY e.number LIMIT %(limit)s
), delivered AS MATERIALIZED (
    SELECT d.message_id, d.position FROM delivery AS d
    WHERE d.handler_id = %(id)s AND d.published_at >= (SELECT min(watermark) FROM held)
      AND d.position = ANY(ARRAY(SELECT one ->> 'position' FROM held))
), former AS MATERIALIZED ( -- what was delivered again meanwhile has another position now
    SELECT d.message_id, e.detail ->> 'position' AS position FROM delivery AS d
    JOIN message_history AS e
      ON e.message_id = d.message_id AND e.handler_id = d.handler_id AND e.what = 'published'
    WHERE (SELECT count(*) FROM held) > (SELECT count(*) FROM delivered)
      AND d.handler_id = %(id)s AND d.published_at >= (SELECT min(watermark) FROM held)
      AND d.repeats > 0
)
SELECT m.id, m.subject, h.one ->> 'consumer', (h.one ->> 'since')::timestamptz,
       (h.one ->> 'deliveries')::integer
FROM held AS h
LEFT JOIN delivered AS d ON d.position = h.one ->> 'position'
LEFT JOIN former AS f ON f.position = h.one ->> 'position'
LEFT JOIN message AS m ON m.id = coalesce(d.message_id, f.message_id)
ORDER BY h.number;

-- name: ensure_row
INSERT INTO handler_queue (handler_id) VALUES (%(id)s) ON CONFLICT DO NOTHING;

-- name: record_check
UPDATE handler_queue
SET watermark = greatest(watermark, %(watermark)s), incarnation = %(incarnation)s,
    restarted_at = NULL, acknowledged = %(acknowledged)s, backlog = %(backlog)s,
    oldest_at = %(oldest_at)s, dead = %(dead)s, checked_at = now()
WHERE handler_id = %(id)s;
