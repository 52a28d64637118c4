-- name: messages
-- What the list shows of a mail, with its state. Ends before WHERE.
SELECT m.id, m.connection_id, c.name AS connection, m.folder, m.sequence, m.size, m.message_id,
       m.sender, m.sender_name, m.recipients, m.subject, m.sent_at, m.arrived_at, m.downloaded_at,
       m.settled_at, m.settled_as, m.opened_at, m.published_at, m.security,
       CASE WHEN m.facts IS NULL OR m.facts ? 'x' THEN '' ELSE m.kind END AS kind,
       CASE WHEN m.facts IS NULL OR m.facts ? 'x' THEN NULL
            ELSE coalesce((m.facts ->> 'n')::integer, 0) END AS attachments,
       CASE WHEN m.provider_thread <> '' THEN m.provider_thread
            WHEN m.thread <> '' THEN m.thread
            WHEN m.facts IS NULL OR m.facts ? 'x' OR m.message_id !~ '^<[^<>]+>$' THEN ''
            ELSE m.message_id END AS thread,
       CASE WHEN q.id IS NOT NULL THEN 'quarantined'
            WHEN o.message_id IS NOT NULL AND o.error IS NOT NULL THEN 'retrying'
            WHEN o.message_id IS NOT NULL THEN 'waiting'
            WHEN m.unwanted THEN 'unwanted'
            WHEN m.published_at IS NULL THEN 'dropped'
            ELSE (
                SELECT CASE WHEN bool_or(f.fate = 'dead-letter') THEN 'dead-letter'
                            WHEN bool_or(f.fate = 'in-hand') THEN 'in-hand'
                            WHEN bool_or(f.fate IN ('waiting', 'unknown')) THEN 'published'
                            WHEN bool_or(f.fate = 'rejected') THEN 'rejected'
                            WHEN count(*) = 0 THEN 'published'
                            ELSE 'acknowledged' END
                FROM delivery_fate AS f WHERE f.message_id = m.id) END AS state
FROM message m
LEFT JOIN connection c ON c.id = m.connection_id
LEFT JOIN outbox o ON o.message_id = m.id
LEFT JOIN quarantine q ON q.id = m.id

-- name: in_range
WHERE (%(before)s::uuid IS NULL OR m.id < %(before)s)
  AND (%(since)s::uuid IS NULL OR m.id >= %(since)s)
  AND (%(until)s::uuid IS NULL OR m.id < %(until)s)
  AND (%(connection_id)s::bigint IS NULL OR m.connection_id = %(connection_id)s)

-- name: with_ascii
-- Every mail in the range is looked at, so this is as cheap as it can be: one text a mail, folded by
-- ASCII alone (the pattern is lower case), which is several times quicker than ILIKE.
  AND lower((m.sender || E'\n' || m.sender_name || E'\n' || m.subject || E'\n' || m.message_id || E'\n'
             || m.recipients::text || m.cc::text) COLLATE "C") LIKE %(pattern)s

-- name: with_text
  AND (m.sender || E'\n' || m.sender_name || E'\n' || m.subject || E'\n' || m.message_id || E'\n'
       || m.recipients::text || m.cc::text) ~* %(pattern)s

-- name: with_message_id
  AND m.message_id = ANY(%(message_ids)s)

-- name: waiting
  AND o.message_id IS NOT NULL AND o.error IS NULL

-- name: retrying
  AND o.message_id IS NOT NULL AND o.error IS NOT NULL

-- name: quarantined
  AND q.id IS NOT NULL

-- name: handed_over
  AND m.published_at IS NOT NULL AND NOT m.unwanted AND o.message_id IS NULL AND q.id IS NULL

-- name: has_fate
  AND EXISTS (SELECT FROM delivery_fate f WHERE f.message_id = m.id AND f.fate = ANY(%(fates)s))

-- name: has_no_fate
  AND NOT EXISTS (SELECT FROM delivery_fate f WHERE f.message_id = m.id AND f.fate = ANY(%(not_fates)s))

-- name: waits
  AND (EXISTS (SELECT FROM delivery_fate f
               WHERE f.message_id = m.id AND f.fate IN ('waiting', 'unknown'))
       OR NOT EXISTS (SELECT FROM delivery d WHERE d.message_id = m.id))

-- name: unwanted
  AND m.unwanted AND o.message_id IS NULL AND q.id IS NULL

-- name: filtered_by
  AND EXISTS (SELECT FROM filtered f WHERE f.message_id = m.id AND f.handler_id = %(filtered_by)s)

-- name: of_kind
  AND m.kind = %(kind)s AND m.kind <> 'person'

-- name: of_a_person
-- Of one that was not read yet it is not known.
  AND m.kind = %(kind)s AND m.facts IS NOT NULL AND NOT m.facts ? 'x'

-- name: with_files
  AND m.facts ? 'n'

-- name: without_files
  AND m.facts IS NOT NULL AND NOT m.facts ?| '{n,x}'

-- name: in_thread
-- The mail that begins a thread has no other mail's id to tell. One look into an index for each, not a
-- condition on every mail of the list.
  AND m.id = ANY(ARRAY(
        SELECT id FROM message WHERE provider_thread = ANY(%(threads)s) AND provider_thread <> ''
        UNION
        SELECT id FROM message
        WHERE thread = ANY(%(threads)s) AND thread <> '' AND provider_thread = ''
        UNION
        SELECT id FROM message
        WHERE message_id = ANY(%(threads)s) AND message_id <> '' AND thread = ''
          AND provider_thread = ''))

-- name: dropped
  AND m.published_at IS NULL AND NOT m.unwanted AND o.message_id IS NULL AND q.id IS NULL

-- name: undecrypted
  AND m.undecrypted

-- name: newest
ORDER BY m.id DESC LIMIT %(limit)s

-- name: detail
-- Everything that is kept of one mail.
SELECT m.uid_validity, m.native_key, m.recipient_names, m.cc, m.cc_names, m.findings, m.sha256, m.raw_key, m.raw_offset, m.opened_key,
       m.opened_offset, m.opened_size, m.opened_sha256, o.attempts, o.next_attempt_at,
       o.error, q.code AS quarantine_code, q.reason AS quarantine_reason,
       q.created_at AS quarantined_at
FROM message m
LEFT JOIN outbox o ON o.message_id = m.id
LEFT JOIN quarantine q ON q.id = m.id
WHERE m.id = %(id)s

-- name: deliveries
SELECT d.handler_id, coalesce(h.name, '') AS handler, d.published_at, d.position, d.repeats, d.note,
       d.redelivery, f.fate, q.checked_at,
       (SELECT one FROM jsonb_array_elements(q.in_hand) AS one
        WHERE one ->> 'position' = d.position LIMIT 1) AS in_hand
FROM delivery d LEFT JOIN handler h ON h.id = d.handler_id
LEFT JOIN handler_queue q ON q.handler_id = d.handler_id
JOIN delivery_fate f ON f.message_id = d.message_id AND f.handler_id = d.handler_id
WHERE d.message_id = %(id)s ORDER BY d.published_at

-- name: history
SELECT y.at, y.what, y.handler_id, coalesce(h.name, '') AS handler, y.detail
FROM message_history y LEFT JOIN handler h ON h.id = y.handler_id
WHERE y.message_id = %(id)s ORDER BY y.at

-- name: left_out
SELECT f.handler_id, coalesce(h.name, '') AS handler, f.decided_at, f.decided_by, f.reason
FROM filtered f LEFT JOIN handler h ON h.id = f.handler_id
WHERE f.message_id = %(id)s ORDER BY f.handler_id

-- name: raw
SELECT connection_id, raw_key, raw_offset, size, opened_key, opened_offset, opened_size
FROM message WHERE id = %(id)s

-- name: handler_has
-- Whether a handler was given a mail, or takes its connection and was not left out.
SELECT EXISTS (SELECT FROM delivery WHERE message_id = %(id)s AND handler_id = %(handler_id)s)
    OR NOT EXISTS (
        SELECT FROM filtered WHERE message_id = %(id)s AND handler_id = %(handler_id)s)
    AND EXISTS (SELECT FROM handler h WHERE h.id = %(handler_id)s AND (h.all_connections OR EXISTS (
        SELECT FROM handler_connection hc
        WHERE hc.handler_id = h.id AND hc.connection_id = %(connection_id)s)))

-- name: runs
SELECT id, duration_ms, found, downloaded, bytes, error FROM fetch_run
WHERE connection_id = %(connection_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: per_day
-- Mails a day, from the runs: the first 48 bits of an id are milliseconds.
SELECT ('x' || encode(substring(uuid_send(id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint / 86400000
           AS day,
       sum(downloaded)::bigint, sum(bytes)::bigint, count(*) FILTER (WHERE error IS NOT NULL)
FROM fetch_run
WHERE (%(connection_id)s::bigint IS NULL OR connection_id = %(connection_id)s) AND id >= %(since)s
GROUP BY 1
