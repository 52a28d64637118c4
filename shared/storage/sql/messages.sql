-- name: messages
-- What the list shows of a mail, with its state. Ends before WHERE.
SELECT m.id, m.connection_id, c.name AS connection, m.folder, m.sequence, m.size, m.message_id,
       m.sender, m.sender_name, m.recipients, m.cc, m.subject, m.sent_at, m.arrived_at, m.downloaded_at,
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
            ELSE coalesce((SELECT s.state FROM message_state AS s WHERE s.message_id = m.id),
                          'published') END AS state
FROM message m
LEFT JOIN connection c ON c.id = m.connection_id
LEFT JOIN outbox o ON o.message_id = m.id
LEFT JOIN quarantine q ON q.id = m.id

-- name: detail
-- Everything that is kept of one mail.
SELECT m.uid_validity, m.native_key, m.recipient_names, m.cc_names, m.findings, m.sha256, m.raw_key, m.raw_offset, m.opened_key,
       m.opened_offset, m.opened_size, m.opened_sha256, o.attempts, o.next_attempt_at,
       o.error, q.code AS quarantine_code, q.reason AS quarantine_reason,
       q.created_at AS quarantined_at
FROM message m
LEFT JOIN outbox o ON o.message_id = m.id
LEFT JOIN quarantine q ON q.id = m.id
WHERE m.id = %(id)s

-- name: deliveries
SELECT d.handler_id, coalesce(h.name, '') AS handler, d.published_at, d.position, d.repeats, d.note,
       d.redelivery, s.state, q.checked_at,
       (SELECT one FROM jsonb_array_elements(q.in_hand) AS one
        WHERE one ->> 'position' = d.position LIMIT 1) AS in_hand
FROM delivery d LEFT JOIN handler h ON h.id = d.handler_id
LEFT JOIN handler_queue q ON q.handler_id = d.handler_id
JOIN delivery_state s ON s.message_id = d.message_id AND s.handler_id = d.handler_id
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
-- Whether a mail was given to a handler, or is about to be: whom rules and groups chose is written
-- before it is published, who has neither gets all of its connections.
SELECT EXISTS (SELECT FROM delivery WHERE message_id = %(id)s AND handler_id = %(handler_id)s)
    OR EXISTS (
        SELECT FROM outbox o JOIN handler h ON h.id = %(handler_id)s
        WHERE o.message_id = %(id)s AND (
            h.id = ANY(o.repeat_handlers || coalesce(o.chosen, '{}'))
            OR (o.initial AND h.enabled AND h.rules IS NULL AND h.group_name = ''
                AND (h.all_connections OR EXISTS (
                    SELECT FROM handler_connection hc
                    WHERE hc.handler_id = h.id AND hc.connection_id = o.connection_id)))))

