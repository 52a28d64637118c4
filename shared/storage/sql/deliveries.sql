-- Who gets which mail: decided, published, or left out.

-- name: standing
-- Asked right before publishing, in one statement: which of these mails are still ours, who has which
-- already (both in the first row alone), and the handlers, each with those of the connections that it
-- takes: one that is disabled may hold a place in a group. Where there is no handler, a row without
-- one. Ids are asked for by way of `asked` and `theirs`, which hides from Postgres how many there are
-- and in which partition: else it makes a plan each time.
WITH asked AS MATERIALIZED (
    SELECT message_id FROM unnest(%(ids)s::uuid[]) AS a(message_id)
), theirs AS MATERIALIZED (
    SELECT connection_id FROM unnest(%(connection_ids)s::bigint[]) AS t(connection_id)
)
SELECT h.id, h.name, h.all_connections,
       ARRAY(SELECT hc.connection_id FROM handler_connection AS hc
             WHERE hc.handler_id = h.id AND hc.connection_id = ANY(ARRAY(SELECT connection_id FROM theirs))),
       h.signing_key, h.former_signing_key, h.rules::text, h.group_name, h.position,
       CASE WHEN row_number() OVER (ORDER BY h.id) = 1 THEN ARRAY(
           SELECT message_id FROM outbox
           WHERE message_id = ANY(ARRAY(SELECT message_id FROM asked)) AND claim = %(claim)s
             AND claimed_until > now()) END,
       CASE WHEN row_number() OVER (ORDER BY h.id) = 1 THEN (
           SELECT jsonb_agg(jsonb_build_array(message_id, handler_id, redelivery)) FROM delivery
           WHERE message_id = ANY(ARRAY(SELECT message_id FROM asked))) END,
       h.enabled
FROM (SELECT) AS always LEFT JOIN handler AS h ON true
ORDER BY h.id;

-- name: left_out
-- Which handlers do not get these mails, as was decided before.
SELECT message_id, handler_id, decided_by, reason, holder FROM filtered
WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: record_choices
-- Before anything is published: whoever tries again publishes to these and to nobody else.
UPDATE outbox AS o SET chosen = c.chosen::bigint[],
    doubts = CASE WHEN c.doubts = '{}' THEN o.doubts ELSE coalesce(o.doubts, '{}') || c.doubts END
FROM unnest(%(ids)s::uuid[], %(choices)s::text[], %(doubts)s::jsonb[]) AS c(id, chosen, doubts)
WHERE o.message_id = c.id;

-- name: record_left_out
INSERT INTO filtered AS f (message_id, handler_id, decided_at, decided_by, reason, holder)
SELECT message_id, handler_id, now(), decided_by, reason, holder
FROM unnest(%(ids)s::uuid[], %(handlers)s::bigint[], %(by)s::text[], %(reasons)s::text[],
            %(holders)s::bigint[])
     AS p(message_id, handler_id, decided_by, reason, holder)
ON CONFLICT (message_id, handler_id) DO UPDATE
SET decided_at = excluded.decided_at, decided_by = excluded.decided_by, reason = excluded.reason,
    holder = excluded.holder;

-- name: forget_left_out
-- These get the mail after all, or are decided about anew.
WITH gone AS (
    DELETE FROM filtered AS f
    USING unnest(%(ids)s::uuid[], %(handlers)s::bigint[]) AS p(message_id, handler_id)
    WHERE f.message_id = p.message_id AND f.handler_id = p.handler_id
      AND f.message_id = ANY(%(ids)s::uuid[])
    RETURNING f.*
)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, decided_at, 'filtered', handler_id,
       jsonb_build_object('by', decided_by, 'reason', reason) FROM gone;

-- name: record_deliveries
INSERT INTO delivery AS d (message_id, handler_id, published_at, position, note, redelivery)
SELECT message_id, handler_id, now(), position, note, redelivery
FROM unnest(%(ids)s::uuid[], %(handlers)s::bigint[], %(positions)s::text[], %(notes)s::text[],
            %(redeliveries)s::jsonb[])
     AS p(message_id, handler_id, position, note, redelivery)
ON CONFLICT (message_id, handler_id) DO UPDATE
SET published_at = excluded.published_at, position = excluded.position, repeats = d.repeats + 1,
    redelivery = excluded.redelivery;

-- name: keep_deliveries
-- Before they are repeated: the ones that were stay on the path.
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT d.message_id, d.published_at, 'published', d.handler_id, jsonb_build_object(
    'position', d.position, 'note', d.note, 'redelivery', d.redelivery)
FROM delivery AS d
JOIN unnest(%(ids)s::uuid[], %(handlers)s::bigint[]) AS p(message_id, handler_id)
  ON d.message_id = p.message_id AND d.handler_id = p.handler_id
WHERE d.message_id = ANY(%(ids)s::uuid[]);
