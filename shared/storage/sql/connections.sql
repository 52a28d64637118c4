-- name: columns
-- What a Connection is made of. Ends before WHERE.
SELECT c.id, {selected}, c.has_password, c.has_client_certificate, c.created_at, c.updated_at,
       ARRAY(SELECT cc.certificate_id FROM connection_certificate cc
             WHERE cc.connection_id = c.id ORDER BY cc.certificate_id) AS certificate_ids
FROM connection c

-- name: of_ids
WHERE c.id = ANY(%(ids)s) ORDER BY c.id

-- name: lock_state
-- States before connections: a fetcher that commits mails locks the state, and then refers to the
-- connection. Locked the other way round each would wait for the other.
SELECT FROM connection_state WHERE connection_id = %(id)s FOR NO KEY UPDATE

-- name: lock
SELECT FROM connection WHERE id = %(id)s FOR NO KEY UPDATE

-- name: of_name
WHERE c.name_key = %(name_key)s OR lower(c.name) = lower(%(name)s)

-- name: insert
INSERT INTO connection ({columns}, name_key, search_text)
VALUES ({values}, %(name_key)s, %(search_text)s)
RETURNING id

-- name: insert_state
-- The hot state that belongs to every connection; not due before it is enabled.
INSERT INTO connection_state (connection_id, due_at)
VALUES (%(id)s, CASE WHEN %(enabled)s THEN now() END)

-- name: update
UPDATE connection
SET {assigned}, name_key = %(name_key)s, search_text = %(search_text)s, updated_at = now()
WHERE id = %(id)s

-- name: delete
DELETE FROM connection WHERE id = %(id)s

-- name: unpublished
-- Mails of a connection that are safe here and not yet with every handler.
SELECT count(*) FROM outbox WHERE connection_id = %(id)s

-- name: drop_certificates
DELETE FROM connection_certificate
WHERE connection_id = %(id)s AND certificate_id <> ALL(%(certificate_ids)s)

-- name: add_certificates
INSERT INTO connection_certificate (connection_id, certificate_id)
SELECT %(id)s, unnest(%(certificate_ids)s::bigint[])
ON CONFLICT DO NOTHING

-- name: sealed_password
SELECT password FROM connection WHERE id = %(id)s

-- name: write_password
UPDATE connection SET password = %(sealed)s, updated_at = now() WHERE id = %(id)s

-- name: sealed_client_certificate
SELECT client_certificate FROM connection WHERE id = %(id)s

-- name: write_client_certificate
UPDATE connection SET client_certificate = %(sealed)s, updated_at = now() WHERE id = %(id)s

-- name: forget_cursor
UPDATE connection_state SET cursor = NULL WHERE connection_id = %(id)s

-- name: start_from
-- The cursor says that everything is handled that came since another start: mails of before that one
-- would never be looked for.
UPDATE connection_state
SET start_since = %(since)s, skip_existing = %(skip_existing)s,
    cursor = CASE WHEN start_since IS NOT DISTINCT FROM %(since)s::timestamptz THEN cursor END
WHERE connection_id = %(id)s

-- name: forget_uids
DELETE FROM known_uid WHERE connection_id = %(id)s

-- name: forget_keys
DELETE FROM known_key WHERE connection_id = %(id)s

-- name: forget_contents
WITH packed AS (DELETE FROM packed_content WHERE connection_id = %(id)s)
DELETE FROM known_content WHERE connection_id = %(id)s

-- name: forget_settlements
DELETE FROM settlement WHERE connection_id = %(id)s

-- name: end_marking
WITH ended AS (DELETE FROM settlement WHERE connection_id = %(id)s RETURNING message_id)
UPDATE message SET settled_at = now(), settled_as = 'nothing'
WHERE id = ANY(ARRAY(SELECT message_id FROM ended));

-- name: forget_folder
UPDATE connection_state
SET uid_validity = NULL, cursor = NULL, skipped_before = NULL, skipped_known = false,
    validity_changed_at = NULL
WHERE connection_id = %(id)s

-- name: retire_all_contents
-- Under numbers that no server gives, as in `retire_contents` (scheduling.sql). What is there
-- already, of an earlier server, goes on beside it.
WITH packed AS (
    UPDATE packed_content SET uid_validity = -uid_validity - %(below)s::bigint
    WHERE connection_id = %(id)s AND uid_validity > 0
)
UPDATE known_content SET uid_validity = -uid_validity - %(below)s::bigint
WHERE connection_id = %(id)s AND uid_validity > 0;

-- name: retire_all_keys
-- Likewise, under digests that no key has, nor those that were retired before. What was still to be deleted
-- is to be deleted where it is found.
UPDATE known_key
SET digest = substring(sha256(digest || convert_to(now()::text, 'UTF8')) FOR 16),
    vanished_on = coalesce(vanished_on, current_date),
    deleted = CASE WHEN digest = ANY(%(to_be_deleted)s::bytea[]) THEN true
                   WHEN vanished_on IS NULL THEN false
                   ELSE deleted END
WHERE connection_id = %(id)s;

-- name: unsettled_keys
DELETE FROM settlement WHERE connection_id = %(id)s AND uid_validity = 0 RETURNING native_key;

-- name: retire_all_settlements
-- With the contents.
UPDATE settlement SET uid_validity = -uid_validity - %(below)s::bigint
WHERE connection_id = %(id)s AND uid_validity > 0;

-- name: keys_changed
UPDATE connection_state SET validity_changed_at = now(), cursor = NULL, skipped_known = false
WHERE connection_id = %(id)s;

-- name: judged
-- Every connection with its health as the list shows it. Reads Postgres only, never a server.
WITH judged AS (
    SELECT c.id, c.name, c.name_key, c.host, c.username, c.created_at, c.search_text, c.mode,
           c.tags, c.enabled,
           s.due_at, s.last_success_at, s.last_run_at, s.last_run_ms, s.failures, s.error,
           s.start_since, s.skip_existing,
           CASE
               WHEN NOT c.enabled THEN 'disabled'
               WHEN s.health IN ('needs-authorisation', 'failing') THEN s.health
               WHEN k.grant_type = 'authorization-code'
                    AND (a.cache IS NULL OR a.revoked OR a.lost_at IS NOT NULL) THEN 'needs-authorisation'
               WHEN NOT EXISTS (SELECT FROM handler h WHERE h.enabled AND h.all_connections)
                    AND NOT EXISTS (SELECT FROM handler_connection hc
                                    JOIN handler h ON h.id = hc.handler_id AND h.enabled
                                    WHERE hc.connection_id = c.id) THEN 'unused'
               -- Its turn came and nobody took it, whatever the reason: half an interval late, by
               -- the last success, from when runs are expected, or until when it was put off on
               -- purpose as its server wants time.
               WHEN s.health IN ('working', 'pending') AND s.due_at IS NOT NULL
                    AND greatest(s.last_success_at, s.awaited_since,
                                 s.put_off_until - make_interval(mins => c.interval_minutes))
                        < now() - make_interval(secs => 90 * c.interval_minutes) THEN 'overdue'
               ELSE s.health
           END AS health
    FROM connection c
    JOIN connection_state s ON s.connection_id = c.id
    LEFT JOIN credential k ON k.id = c.credential_id
    LEFT JOIN authorisation a ON a.connection_id = c.id
)

-- name: ids
-- Goes on with `fitting`, `of_health`, an ORDER BY and `one_page`. The first pages by name are read
-- from an index.
SELECT id FROM judged

-- name: fitting
WHERE search_text LIKE %(pattern)s
  AND (%(mode)s::text IS NULL OR mode = %(mode)s)
  AND (%(tags)s::text[] IS NULL OR tags @> %(tags)s)
  AND (%(part)s::text[] IS NULL OR tags && %(part)s)
  AND (%(handler_id)s::bigint IS NULL
       OR EXISTS (SELECT FROM handler h WHERE h.id = %(handler_id)s AND h.all_connections)
       OR EXISTS (SELECT FROM handler_connection hc
                  WHERE hc.handler_id = %(handler_id)s AND hc.connection_id = judged.id))

-- name: of_health
  AND (%(health)s::text IS NULL OR health = %(health)s)

-- name: one_page
LIMIT %(per_page)s OFFSET %(skipped)s

-- name: counted
SELECT health, count(*) FROM judged

-- name: tags
SELECT tag, count(*) FROM connection c, unnest(c.tags) AS tag
WHERE %(part)s::text[] IS NULL OR c.tags && %(part)s
GROUP BY tag ORDER BY tag

-- name: statuses
SELECT id, health, due_at, last_success_at, last_run_at, last_run_ms, failures, error,
       start_since, skip_existing,
       (SELECT coalesce(sum(r.downloaded), 0)::bigint FROM fetch_run r
        WHERE r.connection_id = judged.id AND r.id >= %(today)s) AS new_today
FROM judged WHERE id = ANY(%(ids)s)

-- name: of_mailbox
-- Other connections of the same mode family that read as the same user.
SELECT id FROM connection WHERE id <> %(id)s
  AND (lower(username) = lower(%(mailbox)s) OR lower(shared_mailbox) = lower(%(mailbox)s))

-- name: names
SELECT id, name FROM connection
