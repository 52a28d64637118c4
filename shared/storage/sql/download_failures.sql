-- Mails at which a download broke off.

-- name: of_folder
SELECT native_key, first, alone, octets, alike, others, released FROM download_failure
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s;

-- name: note
INSERT INTO download_failure AS f
    (connection_id, folder, uid_validity, native_key, first, alone, octets, alike, others)
SELECT %(connection_id)s, %(folder)s, %(uid_validity)s, native_key, n = 1,
       %(alone)s::boolean::integer, %(octets)s, %(alone)s::boolean::integer, %(others)s
FROM unnest(%(native_keys)s::text[]) WITH ORDINALITY AS m(native_key, n)
ON CONFLICT (connection_id, folder, uid_validity, native_key) DO UPDATE
SET first = f.first OR excluded.first, alone = f.alone + excluded.alone,
    others = f.others OR excluded.others,
    octets = CASE WHEN excluded.alone = 0 THEN f.octets ELSE excluded.octets END,
    alike = CASE WHEN excluded.alone = 0 THEN f.alike
                 WHEN excluded.octets = f.octets THEN f.alike + 1 ELSE 1 END;

-- name: release
INSERT INTO download_failure (connection_id, folder, uid_validity, native_key, first, released)
VALUES (%(connection_id)s, %(folder)s, %(uid_validity)s, %(native_key)s, false, true)
ON CONFLICT (connection_id, folder, uid_validity, native_key) DO UPDATE SET released = true;

-- name: released
SELECT native_key FROM download_failure
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s
  AND released;

-- name: given
-- One that failed alone and comes shows that sessions end without its doing: how the others failed
-- until now says nothing either.
WITH given AS (
    DELETE FROM download_failure
    WHERE connection_id = %(connection_id)s AND folder = %(folder)s
      AND uid_validity = %(uid_validity)s AND native_key = ANY(%(native_keys)s::text[])
    RETURNING alone
)
UPDATE download_failure
SET others = true,
    alike = CASE WHEN EXISTS (SELECT FROM given WHERE alone > 0) THEN 0 ELSE alike END
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s
  AND native_key <> ALL(%(native_keys)s::text[]);

-- name: forget
DELETE FROM download_failure
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s
  AND native_key = ANY(%(native_keys)s::text[]);

-- name: forget_elsewhere
-- After the folder was re-created: UIDs of before mean nothing any more.
DELETE FROM download_failure
WHERE connection_id = %(connection_id)s
  AND (folder, uid_validity) <> (%(folder)s, %(uid_validity)s);
