-- Browser sessions, and attempts to log in.

-- name: touch_login
UPDATE person SET last_login_at = now() WHERE id = %(id)s

-- name: start_session
INSERT INTO session (digest, person_id, csrf, expires_at, address, pending)
VALUES (%(digest)s, %(person_id)s, %(csrf)s, now() + %(lifetime)s, %(address)s, %(pending)s)

-- name: pending_session
SELECT s.person_id, p.name FROM session AS s JOIN person AS p ON p.id = s.person_id
WHERE s.digest = %(digest)s AND s.pending AND s.expires_at > now() AND p.enabled

-- name: session
SELECT s.person_id, p.name, p.role, p.tags, s.csrf, s.expires_at, s.seen_at > now() - interval '1 minute'
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
