-- Header digests of mails that stay on an IMAP server, many to a row.

-- name: has_loose
SELECT EXISTS (SELECT FROM known_content
    WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND gmail_id IS NULL);

-- name: last_number
SELECT coalesce(max(number), 0) FROM packed_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s;

-- name: all
SELECT uid_validity, number, uids, digests FROM packed_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
ORDER BY uid_validity, number;

-- name: of_earlier
SELECT uid_validity, number, uids, digests FROM packed_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity <> %(uid_validity)s;

-- name: loose
-- Google's stay, each in its row: they are looked up by X-GM-MSGID.
SELECT uid_validity, uid, digest FROM known_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND gmail_id IS NULL
ORDER BY uid_validity, uid;

-- name: forget_loose
DELETE FROM known_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND gmail_id IS NULL;

-- name: one
SELECT uids, digests FROM packed_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s AND number = %(number)s
FOR UPDATE;

-- name: write
INSERT INTO packed_content (connection_id, folder, uid_validity, number, uids, digests)
VALUES (%(connection_id)s, %(folder)s, %(uid_validity)s, %(number)s, %(uids)s, %(digests)s);

-- name: rewrite
UPDATE packed_content SET uids = %(uids)s, digests = %(digests)s
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s AND number = %(number)s;

-- name: remove
DELETE FROM packed_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s AND number = %(number)s;
