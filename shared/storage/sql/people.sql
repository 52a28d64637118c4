-- People, their sessions, API tokens, and failed logins.

-- name: people
SELECT id, name, email, role, enabled, password_hash IS NOT NULL, oidc_subject IS NOT NULL,
       totp_step IS NOT NULL, created_at, last_login_at
FROM person ORDER BY lower(name)

-- name: person
SELECT id, name, email, role, enabled, password_hash IS NOT NULL, oidc_subject IS NOT NULL,
       totp_step IS NOT NULL, created_at, last_login_at
FROM person WHERE id = %(id)s

-- name: totp
SELECT name, totp_secret, totp_step IS NOT NULL FROM person WHERE id = %(id)s FOR UPDATE

-- name: offer_totp
-- Not over one that is in use.
UPDATE person SET totp_secret = %(sealed)s WHERE id = %(id)s AND totp_step IS NULL RETURNING id

-- name: enable_totp
WITH person AS (UPDATE person SET totp_step = %(step)s WHERE id = %(id)s RETURNING id)
INSERT INTO recovery_code (person_id, digest)
SELECT person.id, digest FROM person, unnest(%(digests)s::bytea[]) AS digest

-- name: use_totp
UPDATE person SET totp_step = %(step)s WHERE id = %(id)s AND totp_step < %(step)s RETURNING id

-- name: use_recovery_code
DELETE FROM recovery_code WHERE person_id = %(id)s AND digest = %(digest)s RETURNING digest

-- name: disable_totp
WITH codes AS (DELETE FROM recovery_code WHERE person_id = %(id)s)
UPDATE person SET totp_secret = NULL, totp_step = NULL WHERE id = %(id)s

-- name: add_person
INSERT INTO person (name, email, role, password_hash)
VALUES (%(name)s, %(email)s, %(role)s, %(password_hash)s)
RETURNING id

-- name: change_person
-- A NULL password_hash keeps the one there is.
UPDATE person
SET name = %(name)s, email = %(email)s, role = %(role)s, enabled = %(enabled)s,
    password_hash = coalesce(%(password_hash)s, password_hash),
    oidc_subject = CASE WHEN lower(email) = lower(%(email)s) THEN oidc_subject END
WHERE id = %(id)s

-- name: delete_person
DELETE FROM person WHERE id = %(id)s

-- name: lock_admins
-- Locked, so that two changes at once cannot remove the last administrator together.
SELECT id FROM person WHERE role = 'admin' AND enabled FOR UPDATE

-- name: password_of
SELECT id, password_hash FROM person WHERE lower(name) = lower(%(name)s) AND enabled

-- name: replace_hash
UPDATE person SET password_hash = %(password_hash)s WHERE id = %(id)s

-- name: touch_login
UPDATE person SET last_login_at = now() WHERE id = %(id)s

-- name: person_of_subject
-- Known by its subject; or, at the first login, by a verified address that nobody claimed yet.
SELECT id FROM person
WHERE enabled AND (oidc_subject = %(subject)s
    OR (oidc_subject IS NULL AND email <> '' AND lower(email) = lower(%(email)s)))
ORDER BY oidc_subject NULLS LAST LIMIT 1

-- name: bind_subject
UPDATE person SET oidc_subject = %(subject)s WHERE id = %(id)s

-- name: start_session
INSERT INTO session (digest, person_id, csrf, expires_at, address, pending)
VALUES (%(digest)s, %(person_id)s, %(csrf)s, now() + %(lifetime)s, %(address)s, %(pending)s)

-- name: pending_session
SELECT s.person_id, p.name FROM session AS s JOIN person AS p ON p.id = s.person_id
WHERE s.digest = %(digest)s AND s.pending AND s.expires_at > now() AND p.enabled

-- name: session
SELECT s.person_id, p.name, p.role, s.csrf, s.expires_at, s.seen_at > now() - interval '1 minute'
FROM session s LEFT JOIN person p ON p.id = s.person_id
WHERE s.digest = %(digest)s AND s.expires_at > now() AND s.seen_at > now() - %(idle)s
  AND NOT s.pending AND (s.person_id IS NULL OR p.enabled)

-- name: touch_session
UPDATE session SET seen_at = now() WHERE digest = %(digest)s

-- name: sessions_of
SELECT digest, created_at, seen_at, expires_at, address FROM session
WHERE person_id IS NOT DISTINCT FROM %(person_id)s
  AND NOT pending AND expires_at > now() AND seen_at > now() - %(idle)s
ORDER BY seen_at DESC

-- name: end_own_session
-- Only where it is this person's.
DELETE FROM session
WHERE digest = %(digest)s AND person_id IS NOT DISTINCT FROM %(person_id)s
RETURNING digest

-- name: end_session
DELETE FROM session WHERE digest = %(digest)s

-- name: end_sessions_of
DELETE FROM session WHERE person_id = %(person_id)s AND digest <> %(keep)s

-- name: sweep
WITH old_sessions AS (DELETE FROM session WHERE expires_at <= now()),
     old_devices AS (DELETE FROM login_device WHERE created_at < now() - interval '180 days')
DELETE FROM login_attempt WHERE at < now() - interval '1 hour'

-- name: lock_sources
-- In order, so that two attempts never wait for each other in a circle.
SELECT pg_advisory_xact_lock(hashtextextended(source, 4711))
FROM unnest(%(sources)s::text[]) AS source

-- name: note_attempt
INSERT INTO login_attempt (source) SELECT unnest(%(sources)s::text[])

-- name: attempts
SELECT source, count(*) FROM login_attempt
WHERE source = ANY(%(sources)s) AND at > now() - %(window)s
GROUP BY source

-- name: forget_attempts
DELETE FROM login_attempt AS a
WHERE a.source = ANY(%(sources)s)
  AND (a.source NOT LIKE 'network %%' AND a.source NOT LIKE 'strangers %%'
       OR a.ctid = (SELECT b.ctid FROM login_attempt AS b WHERE b.source = a.source
                    ORDER BY b.at DESC LIMIT 1))

-- name: add_device
INSERT INTO login_device (digest, person_id)
SELECT %(digest)s, person_id FROM session WHERE digest = %(session)s

-- name: is_device_of
SELECT 1 FROM login_device
WHERE digest = %(digest)s AND person_id IS NOT DISTINCT FROM %(person_id)s
  AND created_at > now() - interval '180 days'

-- name: tokens
SELECT id, name, role, created_by, created_at, expires_at, last_used_at
FROM api_token ORDER BY lower(name)

-- name: tokens_of
SELECT id, name, role, created_by, created_at, expires_at, last_used_at
FROM api_token WHERE person_id = %(person_id)s ORDER BY lower(name)

-- name: end_tokens_of
DELETE FROM api_token WHERE person_id = %(person_id)s RETURNING name

-- name: take_over_tokens_of
UPDATE api_token SET person_id = %(heir)s, created_by = %(heir_name)s
WHERE person_id = %(person_id)s RETURNING name

-- name: add_token
INSERT INTO api_token (name, digest, role, created_by, person_id, expires_at)
VALUES (%(name)s, %(digest)s, %(role)s, %(created_by)s, %(person_id)s, %(expires_at)s)
RETURNING id, name, role, created_by, created_at, expires_at, last_used_at

-- name: delete_token
DELETE FROM api_token WHERE id = %(id)s RETURNING name, role

-- name: token_by_digest
SELECT id, name, role, last_used_at FROM api_token
WHERE digest = %(digest)s AND (expires_at IS NULL OR expires_at > now())

-- name: touch_token
-- At most once a minute, so that a busy program does not write with every request.
UPDATE api_token SET last_used_at = now()
WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- name: handler_by_token
SELECT id, name FROM handler WHERE token_digest = %(digest)s
