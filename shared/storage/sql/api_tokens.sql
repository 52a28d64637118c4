-- API tokens.

-- name: tokens
SELECT id, name, role, tags, created_by, created_at, expires_at, last_used_at
FROM api_token ORDER BY lower(name)

-- name: tokens_of
SELECT id, name, role, tags, created_by, created_at, expires_at, last_used_at
FROM api_token WHERE person_id = %(person_id)s ORDER BY lower(name)

-- name: end_tokens_of
DELETE FROM api_token WHERE person_id = %(person_id)s RETURNING name

-- name: take_over_tokens_of
UPDATE api_token SET person_id = %(heir)s, created_by = %(heir_name)s
WHERE person_id = %(person_id)s RETURNING name

-- name: add_token
INSERT INTO api_token (name, digest, role, tags, created_by, person_id, expires_at)
VALUES (%(name)s, %(digest)s, %(role)s, %(tags)s, %(created_by)s, %(person_id)s, %(expires_at)s)
RETURNING id, name, role, tags, created_by, created_at, expires_at, last_used_at

-- name: delete_token
DELETE FROM api_token WHERE id = %(id)s RETURNING name, role

-- name: token_by_digest
SELECT id, name, role, last_used_at, tags FROM api_token
WHERE digest = %(digest)s AND (expires_at IS NULL OR expires_at > now())

-- name: touch_token
-- At most once a minute, so that a busy program does not write with every request.
UPDATE api_token SET last_used_at = now()
WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- name: handler_by_token
SELECT id, name FROM handler WHERE token_digest = %(digest)s
