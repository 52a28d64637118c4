-- What rules may ask of the mails of the past, newest first.

-- name: page
-- `delivered_to`: who has it already.
SELECT m.id, m.connection_id, m.folder, m.message_id, m.sender, m.sender_name, m.recipients, m.cc,
       m.subject, coalesce(m.opened_size, m.size) AS size, m.security -> 'headers' AS headers,
       m.security ->> 'signature' AS signature, m.security ->> 'status' AS status,
       coalesce((m.security ->> 'encrypted')::boolean, false) AS encrypted, m.facts,
       coalesce(m.findings @> '[{"kind": "header-too-long"}]', false) AS is_cut, m.downloaded_at,
       ARRAY(SELECT d.handler_id FROM delivery AS d WHERE d.message_id = m.id) AS delivered_to
FROM message AS m
WHERE m.id >= %(since)s AND (%(before)s::uuid IS NULL OR m.id < %(before)s)
  AND (%(connection_ids)s::bigint[] IS NULL OR m.connection_id = ANY(%(connection_ids)s))
  AND NOT EXISTS (SELECT FROM quarantine AS q WHERE q.id = m.id)
ORDER BY m.id DESC LIMIT %(limit)s
