-- What is known of the revocation of certificates, and the lists that say so.

-- name: version
-- Changes whenever a row does.
SELECT count(*), max(changed_at) FROM revocation

-- name: known
SELECT fingerprint, seen_at, status, source, as_of, next_update, reason, revoked_at FROM revocation

-- name: note
-- A certificate that a mail was believed by, while there is room for it; once a day it is said again.
INSERT INTO revocation (fingerprint, certificate, issuer, issuer_key, not_after)
SELECT %(fingerprint)s, %(certificate)s, %(issuer)s, %(issuer_key)s, %(not_after)s
WHERE (SELECT count(*) FROM revocation) < %(most)s
    OR EXISTS (SELECT 1 FROM revocation WHERE fingerprint = %(fingerprint)s)
ON CONFLICT (fingerprint) DO UPDATE SET seen_at = now(), changed_at = now(),
    next_attempt_at = CASE WHEN revocation.next_attempt_at = 'infinity' THEN now()
        ELSE revocation.next_attempt_at END

-- name: claim
-- What is due, held for some minutes: whoever dies with it leaves it to the next one.
UPDATE revocation SET next_attempt_at = now() + interval '5 minutes'
WHERE fingerprint IN (
    SELECT fingerprint FROM revocation
    WHERE next_attempt_at <= now() AND not_after > now()
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING fingerprint, certificate, issuer, issuer_key, failures,
    status, source, as_of, next_update, reason, revoked_at

-- name: record
UPDATE revocation SET status = %(status)s, source = %(source)s, as_of = %(as_of)s,
    next_update = %(next_update)s, reason = %(reason)s, revoked_at = %(revoked_at)s,
    checked_at = now(), error = %(error)s, failures = %(failures)s,
    next_attempt_at = %(next_attempt_at)s, changed_at = now()
WHERE fingerprint = %(fingerprint)s

-- name: lists_of
SELECT id, address, list, as_of, next_update, refresh_at, failures FROM revocation_list
WHERE issuer_key = %(issuer_key)s

-- name: octets
SELECT coalesce(sum(octets), 0) FROM revocation_list
WHERE NOT (issuer_key = %(issuer_key)s AND address = %(address)s)

-- name: write_list
-- An older list never takes the place of a newer one.
INSERT INTO revocation_list (issuer_key, issuer_name, address, list, octets, as_of, next_update,
    fetched_at, refresh_at)
VALUES (%(issuer_key)s, %(issuer_name)s, %(address)s, %(list)s, %(octets)s, %(as_of)s,
    %(next_update)s, now(), %(refresh_at)s)
ON CONFLICT (issuer_key, address) DO UPDATE SET list = EXCLUDED.list, octets = EXCLUDED.octets,
    as_of = EXCLUDED.as_of, next_update = EXCLUDED.next_update, fetched_at = now(),
    refresh_at = EXCLUDED.refresh_at, failures = 0, error = ''
WHERE revocation_list.as_of IS NULL OR revocation_list.as_of <= EXCLUDED.as_of
RETURNING id

-- name: record_list_failure
INSERT INTO revocation_list (issuer_key, issuer_name, address, refresh_at, failures, error)
VALUES (%(issuer_key)s, %(issuer_name)s, %(address)s, %(refresh_at)s, 1, %(error)s)
ON CONFLICT (issuer_key, address) DO UPDATE SET refresh_at = EXCLUDED.refresh_at,
    failures = revocation_list.failures + 1, error = EXCLUDED.error

-- name: make_due
-- What a list that was just given may say something about.
UPDATE revocation SET next_attempt_at = now()
WHERE issuer_key = %(issuer_key)s AND next_attempt_at <> 'infinity'

-- name: pause_unused
-- Until a mail is believed by it again, nobody is asked about a certificate; what is known stays.
UPDATE revocation SET next_attempt_at = 'infinity', seen_at = least(seen_at, now() - interval '2 days'),
    changed_at = now()

-- name: troubled
SELECT certificate, error, checked_at FROM revocation
WHERE failures > 0 AND not_after > now()
ORDER BY checked_at DESC LIMIT %(limit)s

-- name: issuers
SELECT certificate FROM trust_anchor
UNION SELECT issuer FROM revocation

-- name: lists
SELECT id, issuer_name, address, octets, as_of, next_update, fetched_at, failures, error
FROM revocation_list ORDER BY failures = 0, lower(issuer_name), address

-- name: delete_list
DELETE FROM revocation_list WHERE id = %(id)s RETURNING issuer_name, address

-- name: may_ask
-- One row where the host may be asked once more, which then counts.
INSERT INTO revocation_host (host, requests)
SELECT %(host)s, 1
WHERE (SELECT coalesce(sum(requests), 0) FROM revocation_host WHERE day = current_date) < %(most)s
ON CONFLICT (host) DO UPDATE SET day = current_date,
    requests = CASE WHEN revocation_host.day = current_date THEN revocation_host.requests ELSE 0 END + 1
WHERE revocation_host.not_before <= now()
    AND (revocation_host.day < current_date OR revocation_host.requests < %(most_of_host)s)
RETURNING 1

-- name: record_host_answer
UPDATE revocation_host SET failures = 0, not_before = now() WHERE host = %(host)s

-- name: record_host_failure
UPDATE revocation_host SET failures = failures + 1,
    not_before = now() + least(interval '1 day', interval '1 minute' * 2 ^ least(failures, 11))
        * %(jitter)s
WHERE host = %(host)s

-- name: counts
-- Certificates by what is known now, and how old the oldest good word is that still counts.
SELECT CASE WHEN status = 'good' AND next_update <= now() THEN 'unknown' ELSE status END AS known,
    count(*),
    coalesce(extract(epoch FROM now() - min(as_of)), 0)::float8
FROM revocation WHERE not_after > now() GROUP BY known

-- name: failing
-- Certificates whose authority could not be asked the last time.
SELECT count(*) FROM revocation WHERE failures > 0 AND not_after > now()
