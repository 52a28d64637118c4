-- Mails that are known by a key of the server's, and by what they hold.

-- name: add
INSERT INTO known_key (connection_id, folder, digest, content)
SELECT %(connection_id)s, %(folder)s, digest, content
FROM unnest(%(digests)s::bytea[], %(contents)s::bytea[]) AS k(digest, content)
ON CONFLICT (connection_id, folder, digest)
DO UPDATE SET vanished_on = NULL, deleted = NULL, content = excluded.content;

-- name: earlier
-- Known mails with one of these contents, under keys that the server does not list now, also where
-- that is so for longer.
SELECT digest, content, deleted IS TRUE FROM known_key
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND content = ANY(%(contents)s::bytea[]) AND digest <> ALL(%(listed)s::bytea[])
  AND (%(vanished)s OR vanished_on IS NULL);

-- name: vanished
-- Of those that are listed, as in `known_keys` (ledger.sql): a mailbox whose mails are deleted lists
-- few and has a month of vanished ones.
SELECT digest, content, deleted FROM unnest(%(digests)s::bytea[]) AS asked(listed) CROSS JOIN LATERAL (
    SELECT k.digest, k.content, k.deleted FROM known_key AS k
    WHERE k.connection_id = %(connection_id)s AND k.folder = %(folder)s
      AND k.digest = asked.listed AND k.vanished_on IS NOT NULL
    LIMIT 1) AS known;

-- name: listed_before
SELECT digest, content FROM unnest(%(digests)s::bytea[]) AS asked(listed) CROSS JOIN LATERAL (
    SELECT k.digest, k.content FROM known_key AS k
    WHERE k.connection_id = %(connection_id)s AND k.folder = %(folder)s
      AND k.digest = asked.listed AND k.vanished_on IS NULL
    LIMIT 1) AS known;

-- name: keep_vanished
UPDATE known_key SET vanished_on = current_date
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND digest = ANY(%(digests)s::bytea[]) AND vanished_on < current_date;

-- name: contents
SELECT digest, content FROM known_key
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND digest = ANY(%(digests)s::bytea[]) AND content IS NOT NULL;

-- name: to_be_deleted
UPDATE known_key SET vanished_on = current_date, deleted = true
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND digest = ANY(%(digests)s::bytea[]);

-- name: give_up_settling
WITH gone AS (
    DELETE FROM settlement
    WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = 0
      AND native_key = ANY(%(keys)s::text[])
    RETURNING message_id
)
UPDATE message SET settled_at = now(), settled_as = 'vanished'
WHERE id = ANY(ARRAY(SELECT message_id FROM gone));

-- name: drop_retired
DELETE FROM known_key
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND digest IN (SELECT substring(sha256(d) FOR 16) FROM unnest(%(digests)s::bytea[]) AS d);

-- name: retire_keys
-- Under digests that no key has, as in `retire_all_keys` (connections.sql).
UPDATE known_key SET digest = substring(sha256(digest) FOR 16)
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND digest = ANY(%(digests)s::bytea[]);

-- name: give_up
-- They live on under other keys.
UPDATE known_key
SET content = NULL, vanished_on = coalesce(vanished_on, current_date), deleted = false
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND digest = ANY(%(digests)s::bytea[]);

-- name: settle_again
-- The row of the ledger that they had is not known any more. (Ids tell how long something waits.)
INSERT INTO settlement (connection_id, folder, uid_validity, native_key, message_id)
SELECT %(connection_id)s, %(folder)s, 0, key, %(message_id)s FROM unnest(%(keys)s::text[]) AS key
ON CONFLICT DO NOTHING;

-- name: settlements
SELECT native_key FROM settlement
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = 0;

-- name: move_settlements
UPDATE settlement AS t SET native_key = moved.new
FROM unnest(%(old_keys)s::text[], %(new_keys)s::text[]) AS moved(old, new)
WHERE t.connection_id = %(connection_id)s AND t.folder = %(folder)s AND t.uid_validity = 0
  AND t.native_key = moved.old;
