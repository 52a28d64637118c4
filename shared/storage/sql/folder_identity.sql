-- Which folder a connection reads, and what changes when it is another one.

-- name: record_skipped_existing
UPDATE connection_state
SET skip_existing = false, skipped_before = coalesce(%(before)s::timestamptz, now()), start_since = NULL
WHERE connection_id = %(id)s;

-- name: record_skipped_known
UPDATE connection_state SET skipped_known = true WHERE connection_id = %(id)s;

-- name: uid_validity
SELECT uid_validity FROM connection_state WHERE connection_id = %(id)s

-- name: record_first_uid_validity
-- While the lease is held; nothing is noted where mails are known, all of another UIDVALIDITY. Where none
-- is known, there is nothing to prune for a day. The commit waits for no disk: whatever is committed under
-- this UIDVALIDITY comes later, and makes it durable as well.
WITH held AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) FROM lease
    WHERE mailbox = %(mailbox)s AND fence = %(fence)s AND owner = %(owner)s
    FOR SHARE
), known AS MATERIALIZED (
    SELECT coalesce(bool_and(uid_validity <> %(uid_validity)s), false) AS earlier, count(*) = 0 AS nothing FROM (
        SELECT uid_validity FROM known_uid
        WHERE connection_id = %(connection_id)s AND folder = %(folder)s
        UNION ALL
        (SELECT uid_validity FROM known_content
         WHERE connection_id = %(connection_id)s AND folder = %(folder)s LIMIT 1)
        UNION ALL
        (SELECT uid_validity FROM packed_content
         WHERE connection_id = %(connection_id)s AND folder = %(folder)s LIMIT 1)
    ) AS mails
), noted AS (
    UPDATE connection_state SET uid_validity = %(uid_validity)s,
        pruned_at = CASE WHEN known.nothing THEN now() ELSE pruned_at END
    FROM held, known
    WHERE connection_id = %(connection_id)s AND connection_state.uid_validity IS NULL AND NOT known.earlier
)
SELECT EXISTS (SELECT FROM held), earlier, nothing FROM known;

-- name: record_uid_validity_change
UPDATE connection_state
SET uid_validity = %(uid_validity)s, validity_changed_at = now(), cursor = NULL, skipped_known = false
WHERE connection_id = %(id)s;

-- name: next_retired
-- So far below zero nothing was retired yet: of two folders with one UIDVALIDITY (32 bits) what was
-- not recognised since stays known of both.
SELECT coalesce(max(-uid_validity / 4294967296) + 1, 0) * 4294967296 FROM (
    SELECT uid_validity FROM known_content WHERE connection_id = %(id)s
    UNION ALL SELECT uid_validity FROM packed_content WHERE connection_id = %(id)s
    UNION ALL SELECT uid_validity FROM settlement WHERE connection_id = %(id)s
) AS retired
WHERE uid_validity < 0;

-- name: retire_uids
-- Another folder has the name, and by chance the same UIDVALIDITY: what is known of the old one goes
-- under a number that no server gives (RFC 3501: nz-number), where recognition finds it.
DELETE FROM known_uid WHERE connection_id = %(id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s;

-- name: retire_contents
WITH packed AS (
    UPDATE packed_content SET uid_validity = -uid_validity - %(below)s::bigint
    WHERE connection_id = %(id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s
)
UPDATE known_content SET uid_validity = -uid_validity - %(below)s::bigint
WHERE connection_id = %(id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s;

-- name: retire_settlements
UPDATE settlement SET uid_validity = -uid_validity - %(below)s::bigint
WHERE connection_id = %(id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s;

-- name: last_mailbox_id
SELECT coalesce(cursor->>'mailbox_id', '') FROM connection_state WHERE connection_id = %(id)s;

-- name: end_rebinding
-- Content of mails that never re-appeared after the folder was re-created is forgotten. Not at once:
-- who moves a mailbox to another server copies its mails for hours or days, and those that come after
-- the first look are no new ones either.
WITH over AS (
    UPDATE connection_state SET validity_changed_at = NULL
    WHERE connection_id = %(id)s
      AND validity_changed_at < now() - make_interval(days => %(days)s)
    RETURNING connection_id, uid_validity
), packed AS (
    DELETE FROM packed_content AS p USING over
    WHERE p.connection_id = over.connection_id AND p.folder = %(folder)s
      AND p.uid_validity <> over.uid_validity
)
DELETE FROM known_content AS k USING over
WHERE k.connection_id = over.connection_id AND k.folder = %(folder)s
  AND k.uid_validity <> over.uid_validity;

