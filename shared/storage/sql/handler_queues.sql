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

-- name: restarted
-- Another run of the broker: the watermark stays until late records of the old one are in.
UPDATE handler_queue
SET restarted_at = coalesce(restarted_at, now()), checked_at = now()
WHERE handler_id = %(id)s;

-- name: published_at
SELECT published_at FROM delivery WHERE message_id = %(message_id)s AND handler_id = %(id)s;

-- name: created
-- Noted before the queue is created: a queue of another generation is one that was lost.
UPDATE handler_queue
SET output = %(output)s, generation = %(generation)s, created_at = now(),
    incarnation = '', restarted_at = NULL, acknowledged = ''
WHERE handler_id = %(id)s;

-- name: born
INSERT INTO handler_queue (handler_id) VALUES (%(id)s) ON CONFLICT DO NOTHING;

-- name: checked
UPDATE handler_queue
SET watermark = greatest(watermark, %(watermark)s), incarnation = %(incarnation)s,
    restarted_at = NULL, acknowledged = %(acknowledged)s, backlog = %(backlog)s,
    oldest_at = %(oldest_at)s, dead = %(dead)s, checked_at = now()
WHERE handler_id = %(id)s;
