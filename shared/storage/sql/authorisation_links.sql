-- name: add
INSERT INTO authorisation_link (connection_id, digest, created_by, expires_at)
VALUES (%(connection_id)s, %(digest)s, %(by)s, now() + make_interval(days => %(days)s))
RETURNING id

-- name: of_connection
SELECT id, connection_id, created_by, created_at, expires_at, used_at, account, revoked_at, now()
FROM authorisation_link WHERE connection_id = %(connection_id)s ORDER BY id DESC

-- name: link
SELECT id, connection_id, created_by, created_at, expires_at, used_at, account, revoked_at, now()
FROM authorisation_link WHERE id = %(id)s

-- name: by_digest
SELECT id FROM authorisation_link WHERE digest = %(digest)s

-- name: use
-- Once, whoever else finishes a login with it at the same moment.
UPDATE authorisation_link SET used_at = now(), account = %(account)s
WHERE id = %(id)s AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()

-- name: revoke
UPDATE authorisation_link SET revoked_at = now()
WHERE id = %(id)s AND used_at IS NULL AND revoked_at IS NULL
