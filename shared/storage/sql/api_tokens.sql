-- API tokens.

-- name: tokens
SELECT t.id, t.name, t.role, t.tags, t.created_by, t.created_at, t.expires_at, t.last_used_at,
       p.role, p.tags, p.enabled
FROM api_token AS t LEFT JOIN person AS p ON p.id = t.person_id
ORDER BY lower(t.name)

-- name: token
SELECT t.id, t.name, t.role, t.tags, t.created_by, t.created_at, t.expires_at, t.last_used_at,
       p.role, p.tags, p.enabled
FROM api_token AS t LEFT JOIN person AS p ON p.id = t.person_id
WHERE t.id = %(id)s

-- name: tokens_of
SELECT t.id, t.name, t.role, t.tags, t.created_by, t.created_at, t.expires_at, t.last_used_at,
       p.role, p.tags, p.enabled
FROM api_token AS t JOIN person AS p ON p.id = t.person_id
WHERE p.id = %(person_id)s ORDER BY lower(t.name)

-- name: end_tokens_of
DELETE FROM api_token WHERE person_id = %(person_id)s RETURNING name

-- name: take_over_tokens_of
UPDATE api_token SET person_id = %(heir)s, created_by = %(heir_name)s
WHERE person_id = %(person_id)s RETURNING name

-- name: take_over_token
UPDATE api_token SET person_id = %(heir)s, created_by = %(heir_name)s
WHERE id = %(id)s RETURNING id

-- name: add_token
INSERT INTO api_token (name, digest, role, tags, created_by, person_id, expires_at)
VALUES (%(name)s, %(digest)s, %(role)s, %(tags)s, %(created_by)s, %(person_id)s, %(expires_at)s)
RETURNING id

-- name: delete_token
DELETE FROM api_token WHERE id = %(id)s RETURNING name, role

-- name: token_by_digest
SELECT t.id, t.name, t.role, t.tags, t.person_id, p.role, p.tags, p.enabled
FROM api_token AS t LEFT JOIN person AS p ON p.id = t.person_id
WHERE t.digest = %(digest)s AND (t.expires_at IS NULL OR t.expires_at > now())

-- name: touch_token
-- At most once a minute, so that a busy program does not write with every request.
UPDATE api_token SET last_used_at = now()
WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- name: handler_by_token
SELECT id, name FROM handler WHERE token_digest = %(digest)s
