-- People who may log in.

-- name: people
SELECT id, name, email, role, tags, enabled, password_hash IS NOT NULL, oidc_subject IS NOT NULL,
       oidc_groups, without_group, totp_step IS NOT NULL, created_at, last_login_at
FROM person ORDER BY lower(name)

-- name: person
SELECT id, name, email, role, tags, enabled, password_hash IS NOT NULL, oidc_subject IS NOT NULL,
       oidc_groups, without_group, totp_step IS NOT NULL, created_at, last_login_at
FROM person WHERE id = %(id)s

-- name: add_person
INSERT INTO person (name, email, role, tags, password_hash)
VALUES (%(name)s, %(email)s, %(role)s, %(tags)s, %(password_hash)s)
RETURNING id

-- name: change_person
-- A NULL password_hash keeps the one there is.
UPDATE person
SET name = %(name)s, email = %(email)s, role = %(role)s, tags = %(tags)s,
    enabled = %(enabled)s, without_group = without_group AND NOT %(enabled)s,
    password_hash = coalesce(%(password_hash)s, password_hash),
    oidc_subject = CASE WHEN lower(email) = lower(%(email)s) THEN oidc_subject END,
    oidc_groups = CASE WHEN role = %(role)s AND tags = %(tags)s THEN oidc_groups ELSE '{}' END
WHERE id = %(id)s

-- name: give_rights
UPDATE person
SET role = %(role)s, tags = %(tags)s, oidc_groups = %(groups)s,
    enabled = enabled OR without_group, without_group = false
WHERE id = %(id)s

-- name: lock_out_without_group
UPDATE person SET without_group = without_group OR enabled, enabled = false WHERE id = %(id)s

-- name: delete_person
DELETE FROM person WHERE id = %(id)s

-- name: lock_admins
-- Locked, so that two changes at once cannot remove the last administrator together.
SELECT id FROM person WHERE role = 'admin' AND enabled FOR UPDATE

-- name: password_of
SELECT id, password_hash FROM person WHERE lower(name) = lower(%(name)s) AND enabled

-- name: replace_hash
UPDATE person SET password_hash = %(password_hash)s WHERE id = %(id)s

-- name: person_of_subject
-- Known by its subject; or, at the first login, by a verified address that nobody claimed yet.
SELECT id FROM person
WHERE (enabled OR without_group AND %(groups_decide)s)
  AND (oidc_subject = %(subject)s
    OR (oidc_subject IS NULL AND email <> '' AND lower(email) = lower(%(email)s)))
ORDER BY oidc_subject NULLS LAST LIMIT 1

-- name: bind_subject
UPDATE person SET oidc_subject = %(subject)s WHERE id = %(id)s
