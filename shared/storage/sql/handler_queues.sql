-- How far each handler's queue is acknowledged: what is needed to fill a lost one again.

-- name: lock
-- One checker a handler: others skip it. Creates the row on first sight.
WITH born AS (
    INSERT INTO handler_queue (handler_id) VALUES (%(id)s) ON CONFLICT DO NOTHING
)
SELECT output, generation, watermark, created_at, now() FROM handler_queue
WHERE handler_id = %(id)s FOR UPDATE SKIP LOCKED;

-- name: handlers
SELECT id, name, enabled FROM handler ORDER BY id;

-- name: recent_positions
-- Confirmed positions since the queue was created; the highest must still be there.
SELECT position FROM delivery
WHERE handler_id = %(id)s AND published_at > %(since)s AND position <> ''
ORDER BY published_at DESC LIMIT 500;

-- name: published_at
SELECT published_at FROM delivery WHERE message_id = %(message_id)s AND handler_id = %(id)s;

-- name: created
UPDATE handler_queue
SET output = %(output)s, generation = %(generation)s, created_at = now()
WHERE handler_id = %(id)s;

-- name: lost
UPDATE handler_queue SET created_at = NULL WHERE handler_id = %(id)s;

-- name: checked
UPDATE handler_queue
SET watermark = greatest(watermark, %(watermark)s), backlog = %(backlog)s,
    oldest_at = %(oldest_at)s, dead = %(dead)s, checked_at = now()
WHERE handler_id = %(id)s;
