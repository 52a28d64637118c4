-- Gmail shows one mail under each of its labels: which ones came under another one?

-- name: known_elsewhere
-- `waiting`: not yet published, so who gets it is still open. Of mails whose ledger row has aged
-- out, the handlers that take its connection now stand for those that had it.
SELECT k.gmail_id, k.message_id, k.digest,
       EXISTS (SELECT FROM outbox AS o WHERE o.message_id = k.message_id) AS waiting,
       CASE WHEN EXISTS (SELECT FROM message AS m WHERE m.id = k.message_id)
           THEN ARRAY(SELECT d.handler_id FROM delivery AS d WHERE d.message_id = k.message_id)
           ELSE ARRAY(SELECT h.id FROM handler AS h WHERE h.all_connections OR EXISTS (
               SELECT FROM handler_connection AS hc
               WHERE hc.handler_id = h.id AND hc.connection_id = k.connection_id)) END AS handlers
FROM known_content AS k
WHERE k.gmail_id = ANY(%(gmail_ids)s) AND k.message_id IS NOT NULL
  AND k.connection_id = ANY(%(connection_ids)s)
  AND CASE WHEN upper(k.folder) = 'INBOX' THEN '' ELSE k.folder END <> %(inbox_or_folder)s;

-- name: any_elsewhere
SELECT EXISTS (
    SELECT FROM known_content AS k
    WHERE k.gmail_id IS NOT NULL AND k.connection_id = ANY(%(connection_ids)s)
      AND CASE WHEN upper(k.folder) = 'INBOX' THEN '' ELSE k.folder END <> %(inbox_or_folder)s);

-- name: taking
SELECT h.id FROM handler AS h WHERE h.enabled AND (h.all_connections OR EXISTS (
    SELECT FROM handler_connection AS hc
    WHERE hc.handler_id = h.id AND hc.connection_id = %(connection_id)s));

-- name: insert_settlements
INSERT INTO settlement (connection_id, folder, uid_validity, native_key, message_id)
SELECT %(connection_id)s, %(folder)s, %(uid_validity)s, uid::text, id
FROM unnest(%(ids)s::uuid[], %(uids)s::bigint[]) AS m(id, uid)
ON CONFLICT DO NOTHING;

-- name: lock
SELECT pg_advisory_xact_lock(18253, hashtext(%(mailbox)s));

-- name: add_content
INSERT INTO known_content
    (connection_id, folder, uid_validity, uid, digest, gmail_id, message_id)
SELECT %(connection_id)s, %(folder)s, %(uid_validity)s, uid, digest, gmail_id, message_id
FROM unnest(%(uids)s::bigint[], %(digests)s::bytea[], %(gmail_ids)s::bigint[], %(ids)s::uuid[])
    AS c(uid, digest, gmail_id, message_id)
ON CONFLICT DO NOTHING;
