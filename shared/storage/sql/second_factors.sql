-- One-time codes and recovery codes.

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
