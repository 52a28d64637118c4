-- One person's mails: those the person sent, or was addressed in (To and Cc).

-- name: mails_of
SELECT id, raw_key, opened_key FROM message
WHERE terms @> %(terms)s::integer[]
  AND (lower(sender) = %(address)s
       OR EXISTS (SELECT FROM unnest(recipients || cc) AS a WHERE lower(a) = %(address)s))
ORDER BY id LIMIT %(limit)s

-- name: others_in
-- What other mails have in these objects: (mail, which form, object, offset, size).
WITH others AS (
    SELECT * FROM message m
    WHERE (raw_key = ANY(%(keys)s) OR opened_key = ANY(%(keys)s))
      AND lower(sender) <> %(address)s
      AND NOT EXISTS (SELECT FROM unnest(recipients || cc) AS a WHERE lower(a) = %(address)s)
)
SELECT id, false, raw_key, raw_offset, size FROM others WHERE raw_key = ANY(%(keys)s)
UNION ALL
SELECT id, true, opened_key, opened_offset, opened_size FROM others
WHERE opened_key = ANY(%(keys)s)
ORDER BY 3, 4

-- name: lock_outbox
-- Nobody starts to publish these meanwhile; true where somebody is at it already.
SELECT claimed_until > now() FROM outbox WHERE message_id = ANY(%(ids)s) ORDER BY message_id FOR UPDATE

-- name: move_raw
UPDATE message AS m SET raw_key = %(new)s, raw_offset = r.start
FROM unnest(%(ids)s::uuid[], %(offsets)s::bigint[]) AS r(id, start)
WHERE m.id = r.id AND m.raw_key = %(old)s

-- name: move_opened
UPDATE message AS m SET opened_key = %(new)s, opened_offset = r.start
FROM unnest(%(ids)s::uuid[], %(offsets)s::bigint[]) AS r(id, start)
WHERE m.id = r.id AND m.opened_key = %(old)s

-- name: move_quarantined
UPDATE quarantine AS q SET raw_key = %(new)s, raw_offset = r.start
FROM unnest(%(ids)s::uuid[], %(offsets)s::bigint[]) AS r(id, start)
WHERE q.id = r.id AND q.raw_key = %(old)s

-- name: forget_left
DELETE FROM quarantine AS q WHERE lower(q.sender) = %(address)s
  AND NOT EXISTS (SELECT FROM message WHERE message.id = q.id)

-- name: forget
-- The mails and all that is told of them. What is known of their mailbox stays (they are not
-- downloaded again), and so does what their server has still to be told.
WITH d AS (DELETE FROM delivery WHERE message_id = ANY(%(ids)s)),
     f AS (DELETE FROM filtered WHERE message_id = ANY(%(ids)s)),
     h AS (DELETE FROM message_history WHERE message_id = ANY(%(ids)s)),
     l AS (DELETE FROM dead_letter WHERE message_id = ANY(%(ids)s)),
     o AS (DELETE FROM outbox WHERE message_id = ANY(%(ids)s)),
     q AS (DELETE FROM quarantine WHERE id = ANY(%(ids)s))
DELETE FROM message WHERE id = ANY(%(ids)s)
