-- name: insert
-- Gives the name of the connection, for the alert.
INSERT INTO quarantine (id, connection_id, folder, native_key, uid_validity, code, reason, size,
    raw_key, raw_offset, work, message_id, sender, subject, sent_at)
VALUES (%(id)s, %(connection_id)s, %(folder)s, %(native_key)s, %(uid_validity)s, %(code)s,
    %(reason)s, %(size)s, %(raw_key)s, %(raw_offset)s, %(work)s,
    %(message_id)s, %(sender)s, %(subject)s, %(sent_at)s)
ON CONFLICT (id) DO UPDATE SET code = excluded.code, reason = excluded.reason, created_at = now(),
    work = excluded.work
RETURNING (SELECT name FROM connection WHERE id = %(connection_id)s);

-- name: entries
-- Ends before WHERE.
SELECT q.id, q.connection_id, coalesce(c.name, '') AS connection, q.folder, q.native_key,
       q.uid_validity, q.code, q.reason, q.size, q.raw_key, q.raw_offset, q.created_at,
       m.id IS NOT NULL AS in_ledger, coalesce(m.subject, q.subject) AS subject,
       coalesce(m.sender, q.sender) AS sender, coalesce(m.message_id, q.message_id) AS message_id,
       CASE WHEN m.id IS NULL THEN q.sent_at ELSE m.sent_at END AS sent_at
FROM quarantine q
LEFT JOIN connection c ON c.id = q.connection_id
LEFT JOIN message m ON m.id = q.id

-- name: matching
WHERE (%(before)s::uuid IS NULL OR q.id < %(before)s)
  AND (%(connection_id)s::bigint IS NULL OR q.connection_id = %(connection_id)s)
  AND (%(part)s::text[] IS NULL OR c.tags && %(part)s)
  AND (%(code)s::text IS NULL OR q.code = %(code)s)
  AND (%(pattern)s::text IS NULL
       OR lower(coalesce(m.subject, q.subject) || E'\n' || coalesce(m.sender, q.sender) || E'\n'
                || coalesce(m.message_id, q.message_id)) LIKE %(pattern)s)
ORDER BY q.id DESC LIMIT %(limit)s

-- name: of_id
WHERE q.id = %(id)s FOR UPDATE OF q

-- name: never_downloaded
-- Keys of mails that are on their server and were never had here.
SELECT q.native_key FROM quarantine AS q
WHERE q.connection_id = %(connection_id)s AND q.folder = %(folder)s
  AND q.uid_validity = %(uid_validity)s AND q.native_key = ANY(%(keys)s) AND q.raw_key IS NULL

-- name: left_on_server
-- What the headers of mails said that were never had here, under keys of the server's.
SELECT q.native_key, q.message_id, q.sender, q.subject, q.sent_at FROM quarantine AS q
WHERE q.connection_id = %(connection_id)s AND q.folder = %(folder)s
  AND q.native_key = ANY(%(keys)s::text[]) AND q.raw_key IS NULL

-- name: count
SELECT count(*) FROM quarantine
WHERE %(part)s::text[] IS NULL
   OR connection_id IN (SELECT id FROM connection WHERE tags && %(part)s)

-- name: keep
-- That it was here stays on the path of its mail.
INSERT INTO message_history (message_id, at, what, detail)
SELECT q.id, q.created_at, 'quarantined', jsonb_build_object('code', q.code, 'reason', q.reason)
FROM quarantine AS q JOIN message AS m ON m.id = q.id WHERE q.id = %(id)s
UNION ALL
SELECT m.id, clock_timestamp(), %(what)s, '{}' FROM message AS m
WHERE m.id = %(id)s AND EXISTS (SELECT FROM quarantine WHERE quarantine.id = m.id)

-- name: delete
DELETE FROM quarantine WHERE id = %(id)s

-- name: publish_anew
-- Back on its way, with all its attempts before it. What was decided stands: whom the rules chose, and
-- who may have it already.
INSERT INTO outbox (message_id, connection_id, next_attempt_at, initial, repeat_handlers,
    asked_handlers, had_handlers, chosen, doubts, redeliveries)
SELECT m.id, m.connection_id, now(), coalesce(w.initial, true), coalesce(w.repeat_handlers, '{}'),
       coalesce(w.asked_handlers, '{}'), coalesce(w.had_handlers, '{}'), w.chosen, w.doubts,
       coalesce(w.redeliveries, '{}')
FROM message AS m JOIN quarantine AS q ON q.id = m.id
CROSS JOIN LATERAL jsonb_to_record(coalesce(q.work, '{}')) AS w(
    initial boolean, repeat_handlers bigint[], asked_handlers bigint[], had_handlers bigint[],
    chosen bigint[], doubts jsonb, redeliveries jsonb)
WHERE m.id = %(id)s
ON CONFLICT (message_id) DO NOTHING
