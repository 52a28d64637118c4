-- What rules may ask of the mails of the past, newest first. Those that were dropped from quarantine
-- are no more: nobody gets them.

-- name: page
-- `delivered_to`: who has it already; `to_have`: whom it is about to be given to; `is_asked`: whether
-- this handler's rules are asked when it is published. `left_out` is asked for where it may be told:
-- of a mail that waits, in a group, and where rules that stand since `rules_since` may have decided.
SELECT m.id, m.connection_id, m.folder, m.message_id, m.sender, m.sender_name, m.recipients, m.cc,
       m.subject, coalesce(m.opened_size, m.size) AS size, m.security -> 'headers' AS headers,
       m.security ->> 'signature' AS signature, m.security ->> 'status' AS status,
       coalesce((m.security ->> 'encrypted')::boolean, false) AS encrypted, m.facts,
       coalesce(m.findings @> '[{"kind": "header-too-long"}]', false) AS is_cut, m.downloaded_at,
       ARRAY(SELECT d.handler_id FROM delivery AS d WHERE d.message_id = m.id) AS delivered_to,
       o.chosen || o.repeat_handlers AS to_have,
       coalesce(o.initial OR %(handler_id)s = ANY(o.asked_handlers), false) AS is_asked,
       CASE WHEN %(in_group)s OR o.message_id IS NOT NULL
                 OR %(rules_since)s::timestamptz IS NOT NULL THEN (
           SELECT jsonb_build_array(f.handler_id, f.decided_by, f.reason, f.holder,
                                    f.decided_at > %(rules_since)s)
           FROM filtered AS f WHERE f.message_id = m.id AND f.handler_id = %(handler_id)s)
       END AS left_out
FROM message AS m LEFT JOIN outbox AS o ON o.message_id = m.id
WHERE m.id >= %(since)s AND (%(before)s::uuid IS NULL OR m.id < %(before)s)
  AND (%(connection_ids)s::bigint[] IS NULL OR m.connection_id = ANY(%(connection_ids)s))
  AND NOT EXISTS (SELECT FROM quarantine AS q WHERE q.id = m.id)
  AND (m.published_at IS NOT NULL OR m.unwanted OR o.message_id IS NOT NULL)
ORDER BY m.id DESC LIMIT %(limit)s
