-- Where handlers' events are passed on to, what waits to be tried again, and the log.

-- name: forwards
-- Ends before WHERE.
SELECT f.handler_id, f.kind, f.place, f.options, f.header_names, f.credential_names,
       f.secret IS NOT NULL AS has_secret, f.former_secret IS NOT NULL AS has_former_secret,
       f.client_certificate IS NOT NULL AS has_client_certificate,
       f.paused_at, f.paused_by, f.pause_reason
FROM forward f

-- name: of_handlers
WHERE f.handler_id = ANY(%(ids)s)

-- name: failing
-- Of handlers: events wait that the endpoint did not take, and the last attempt failed too.
SELECT f.handler_id FROM forward f
WHERE f.handler_id = ANY(%(ids)s)
  AND EXISTS (SELECT FROM forward_retry r WHERE r.handler_id = f.handler_id)
  AND (SELECT a.outcome FROM forward_attempt a WHERE a.handler_id = f.handler_id
       ORDER BY a.id DESC LIMIT 1) <> 'delivered'

-- name: lock
SELECT FROM forward WHERE handler_id = %(id)s FOR UPDATE

-- name: insert
INSERT INTO forward (handler_id, kind, place, options, header_names, credential_names, address,
                     link_key)
VALUES (%(id)s, %(kind)s, %(place)s, %(options)s, %(header_names)s, %(credential_names)s,
        %(address)s, %(link_key)s)

-- name: change
UPDATE forward SET kind = %(kind)s, place = %(place)s, options = %(options)s,
    header_names = %(header_names)s, credential_names = %(credential_names)s, updated_at = now()
WHERE handler_id = %(id)s

-- name: write_address
UPDATE forward SET address = %(sealed)s, updated_at = now() WHERE handler_id = %(id)s

-- name: write_headers
UPDATE forward SET headers = %(sealed)s, updated_at = now() WHERE handler_id = %(id)s

-- name: write_client_certificate
UPDATE forward SET client_certificate = %(sealed)s, updated_at = now() WHERE handler_id = %(id)s

-- name: write_credentials
UPDATE forward SET credentials = %(sealed)s, updated_at = now() WHERE handler_id = %(id)s

-- name: secret
SELECT secret FROM forward WHERE handler_id = %(id)s

-- name: write_secrets
UPDATE forward SET secret = %(secret)s, former_secret = %(former)s, updated_at = now()
WHERE handler_id = %(id)s

-- name: delete
DELETE FROM forward WHERE handler_id = %(id)s

-- name: link_key
SELECT link_key FROM forward WHERE handler_id = %(id)s

-- name: sealed
-- Everything that is needed to send, sealed as it is.
SELECT f.handler_id, h.name, h.signing_key, h.former_signing_key, f.kind, f.options, f.address,
       f.secret, f.former_secret, f.headers, f.client_certificate, f.credentials, f.link_key,
       f.paused_at
FROM forward f JOIN handler h ON h.id = f.handler_id
WHERE %(id)s::bigint IS NULL OR f.handler_id = %(id)s
ORDER BY f.handler_id

-- name: pause
UPDATE forward SET paused_at = now(), paused_by = %(by)s, pause_reason = %(reason)s
WHERE handler_id = %(id)s AND paused_at IS NULL

-- name: resume
UPDATE forward SET paused_at = NULL, paused_by = '', pause_reason = ''
WHERE handler_id = %(id)s AND paused_at IS NOT NULL

-- name: lease_sending
-- A lease that nobody has, or whose time is over; one's own is prolonged when a quarter is used up.
UPDATE forward SET sender = %(owner)s, sender_until = now() + make_interval(secs => %(ttl)s)
WHERE handler_id = ANY(%(ids)s)
  AND (sender_until IS NULL OR sender_until < now()
       OR sender = %(owner)s AND sender_until < now() + make_interval(secs => %(ttl)s * 0.75))

-- name: sending_leased
SELECT handler_id FROM forward
WHERE handler_id = ANY(%(ids)s) AND sender = %(owner)s AND sender_until > now()

-- name: release_sending
UPDATE forward SET sender = '', sender_until = NULL WHERE sender = %(owner)s

-- name: all_waiting
-- The soonest first: of a flood, those that wait longest are asked for when they come.
SELECT handler_id, event_id, greatest(0, extract(epoch FROM next_attempt_at - now()))::float8
FROM forward_retry ORDER BY next_attempt_at LIMIT 100000

-- name: failed
-- Counts a failed attempt; the next comes after a delay that doubles.
INSERT INTO forward_retry AS r (handler_id, event_id, attempts, next_attempt_at)
VALUES (%(id)s, %(event)s, 1, now() + make_interval(secs => %(first)s))
ON CONFLICT (handler_id, event_id) DO UPDATE
SET attempts = r.attempts + 1,
    next_attempt_at = now() + make_interval(
        secs => least(%(longest)s, %(first)s * 2 ^ least(r.attempts, 30)))
RETURNING attempts, first_failed_at, next_attempt_at, now()

-- name: forget_retries
DELETE FROM forward_retry WHERE handler_id = %(id)s AND event_id = ANY(%(events)s)

-- name: log
-- Of handlers that are still forwarded.
INSERT INTO forward_attempt (handler_id, event_id, at, seconds, outcome, status, detail, answer)
SELECT n.handler_id, n.event_id, n.at, n.seconds, n.outcome, n.status, n.detail, n.answer
FROM unnest(%(handlers)s::bigint[], %(events)s::text[], %(times)s::timestamptz[],
            %(seconds)s::real[], %(outcomes)s::text[], %(statuses)s::integer[],
            %(details)s::text[], %(answers)s::text[])
     AS n (handler_id, event_id, at, seconds, outcome, status, detail, answer)
WHERE EXISTS (SELECT FROM forward f WHERE f.handler_id = n.handler_id)

-- name: trim
-- Beyond the newest of a handler.
DELETE FROM forward_attempt WHERE handler_id = %(id)s AND id <= (
    SELECT id FROM forward_attempt WHERE handler_id = %(id)s
    ORDER BY id DESC OFFSET %(kept)s LIMIT 1)

-- name: attempts
SELECT id, event_id, at, seconds, outcome, status, detail, answer FROM forward_attempt
WHERE handler_id = %(id)s AND (%(before)s::bigint IS NULL OR id < %(before)s)
  AND (%(outcome)s = '' OR outcome = %(outcome)s)
ORDER BY id DESC LIMIT %(limit)s
