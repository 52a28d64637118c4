-- name: handlers
-- Ends before WHERE.
SELECT h.id, h.name, h.description, h.enabled, h.rules::text AS rules, h.group_name AS "group",
       h.position,
       CASE WHEN NOT h.all_connections THEN
           ARRAY(SELECT hc.connection_id FROM handler_connection hc
                 WHERE hc.handler_id = h.id ORDER BY hc.connection_id) END AS connection_ids,
       h.token_digest IS NOT NULL AS has_token, h.signing_key IS NOT NULL AS has_signing_key,
       h.former_signing_key IS NOT NULL AS has_former_signing_key, h.created_at, h.updated_at
FROM handler h

-- name: of_id
WHERE h.id = %(id)s

-- name: of_id_locked
WHERE h.id = %(id)s FOR UPDATE OF h

-- name: matching
WHERE h.name LIKE %(pattern)s OR lower(h.description) LIKE %(pattern)s ORDER BY h.name

-- name: taking
-- The enabled handlers that take a connection.
WHERE h.enabled AND (h.all_connections OR EXISTS (
    SELECT FROM handler_connection hc
    WHERE hc.handler_id = h.id AND hc.connection_id = %(connection_id)s)) ORDER BY h.name

-- name: with_rules
WHERE h.rules IS NOT NULL ORDER BY h.id FOR UPDATE OF h

-- name: lock_order
SELECT FROM handler ORDER BY id FOR UPDATE

-- name: write_rules
UPDATE handler SET rules = %(rules)s, updated_at = now() WHERE id = %(id)s

-- name: move
UPDATE handler SET position = %(position)s, updated_at = now() WHERE id = %(id)s

-- name: insert
INSERT INTO handler (name, description, enabled, all_connections, rules, group_name, position)
VALUES (%(name)s, %(description)s, %(enabled)s, %(all_connections)s, %(rules)s, %(group)s,
        %(position)s)
RETURNING id

-- name: update
UPDATE handler SET description = %(description)s, enabled = %(enabled)s,
    all_connections = %(all_connections)s, rules = %(rules)s, group_name = %(group)s,
    position = %(position)s, updated_at = now()
WHERE id = %(id)s

-- name: drop_connections
DELETE FROM handler_connection
WHERE handler_id = %(id)s AND connection_id <> ALL(%(connection_ids)s)

-- name: add_connections
INSERT INTO handler_connection (handler_id, connection_id)
SELECT %(id)s, unnest(%(connection_ids)s::bigint[])
ON CONFLICT DO NOTHING

-- name: hold_queue
-- Before its handler is deleted, in the order of who looks at the queue: that one holds this row, and
-- Postgres asks for the handler's when it is changed a second time.
SELECT FROM handler_queue WHERE handler_id = %(id)s FOR UPDATE

-- name: delete
DELETE FROM handler WHERE id = %(id)s

-- name: write_token
UPDATE handler SET token_digest = %(digest)s, updated_at = now() WHERE id = %(id)s

-- name: signing_key
SELECT signing_key FROM handler WHERE id = %(id)s

-- name: write_signing_keys
UPDATE handler SET signing_key = %(key)s, former_signing_key = %(former)s, updated_at = now()
WHERE id = %(id)s

-- name: queues
-- How each handler's queue looked when it was last checked.
SELECT handler_id, output, watermark, backlog, oldest_at, dead AS dead_letters, checked_at, consumers,
       last_acknowledged_at
FROM handler_queue
WHERE handler_id = ANY(%(ids)s)

-- name: waiting
-- Mails that have still to be published, per handler that takes them; those of which its rules are
-- still to be asked included.
SELECT h.id, count(*) FROM outbox o JOIN handler h
  ON (o.initial AND h.enabled AND o.chosen IS NULL AND (h.all_connections OR EXISTS (
          SELECT FROM handler_connection hc
          WHERE hc.handler_id = h.id AND hc.connection_id = o.connection_id)))
  OR h.id = ANY(o.repeat_handlers || o.asked_handlers || coalesce(o.chosen, '{}'))
GROUP BY h.id
