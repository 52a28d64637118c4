-- name: begin_flow
-- One started login; whoever comes back with its state takes it out. Old ones go on the way.
WITH old AS (DELETE FROM oauth_flow WHERE created_at < now() - interval '15 minutes')
INSERT INTO oauth_flow (state, connection_id, session, flow)
VALUES (%(state)s, %(connection_id)s, %(session)s, %(flow)s)

-- name: flow_connection
SELECT connection_id FROM oauth_flow WHERE state = %(state)s

-- name: flow_link
SELECT session FROM oauth_flow WHERE state = %(state)s AND session LIKE 'link %%'

-- name: take_flow
-- Single use: the row is gone whoever asked, so a replayed state finds nothing.
DELETE FROM oauth_flow WHERE state = %(state)s
RETURNING connection_id, session, flow, created_at > now() - interval '15 minutes' AS in_time

-- name: grant
INSERT INTO authorisation
    (connection_id, cache, account, authorised_by, authorised_at, expires_at, grant_ends_at,
     revoked, lost_at)
VALUES (%(connection_id)s, %(cache)s, %(account)s, %(by)s, now(), %(expires_at)s,
        %(grant_ends_at)s, false, NULL)
ON CONFLICT (connection_id) DO UPDATE SET
    cache = excluded.cache,
    account = excluded.account,
    authorised_by = excluded.authorised_by,
    authorised_at = excluded.authorised_at,
    expires_at = excluded.expires_at,
    grant_ends_at = excluded.grant_ends_at,
    revoked = false,
    lost_at = NULL

-- name: resume
-- The backlog goes on by itself: what waited for an authorisation is due at once. A run that began
-- with the tokens of before has nothing to say of these.
UPDATE connection_state s
SET health = 'pending', error = NULL, failures = 0, awaited_since = now(),
    due_at = CASE WHEN c.enabled THEN now() ELSE s.due_at END
FROM connection c
WHERE c.id = s.connection_id AND s.connection_id = %(connection_id)s
  AND s.health <> 'working'

-- name: read_cache
SELECT cache FROM authorisation
WHERE connection_id = %(connection_id)s AND NOT revoked AND lost_at IS NULL

-- name: lock_cache
-- Waits for whoever refreshes these tokens now. lost_at is read after the wait, so the second of
-- two that found them expired sees what the first one saved.
SELECT CASE WHEN revoked OR lost_at IS NOT NULL THEN NULL ELSE cache END
FROM authorisation WHERE connection_id = %(connection_id)s FOR UPDATE

-- name: save_cache
UPDATE authorisation SET cache = %(cache)s, expires_at = %(expires_at)s, refreshed_at = now()
WHERE connection_id = %(connection_id)s

-- name: lose
UPDATE authorisation SET lost_at = now() WHERE connection_id = %(connection_id)s

-- name: revoke
UPDATE authorisation SET revoked = true, cache = NULL, expires_at = NULL
WHERE connection_id = %(connection_id)s

-- name: status
SELECT connection_id, account, authorised_by, authorised_at, expires_at, lost_at, revoked, grant_ends_at
FROM authorisation WHERE connection_id = ANY(%(ids)s)

-- name: unused_since
-- Grants that nobody spent for long (disabled connections): providers end those after a while.
SELECT connection_id FROM authorisation
WHERE NOT revoked AND lost_at IS NULL AND cache IS NOT NULL
  AND coalesce(refreshed_at, authorised_at) < %(before)s
ORDER BY connection_id LIMIT %(limit)s

-- name: forget
-- A link that was sent for another account or host is not good for this one.
WITH flows AS (DELETE FROM oauth_flow WHERE connection_id = %(connection_id)s),
links AS (
    UPDATE authorisation_link SET revoked_at = now()
    WHERE connection_id = %(connection_id)s AND used_at IS NULL AND revoked_at IS NULL
)
DELETE FROM authorisation WHERE connection_id = %(connection_id)s

-- name: forget_credential
WITH users AS (SELECT id FROM connection WHERE credential_id = %(credential_id)s),
flows AS (DELETE FROM oauth_flow WHERE connection_id IN (SELECT id FROM users)),
links AS (
    UPDATE authorisation_link SET revoked_at = now()
    WHERE connection_id IN (SELECT id FROM users) AND used_at IS NULL AND revoked_at IS NULL
)
DELETE FROM authorisation WHERE connection_id IN (SELECT id FROM users)

-- name: sharing
SELECT other.connection_id, oc.name
FROM authorisation mine
JOIN connection mc ON mc.id = mine.connection_id
JOIN credential mk ON mk.id = mc.credential_id
JOIN authorisation other ON other.connection_id <> mine.connection_id
JOIN connection oc ON oc.id = other.connection_id
JOIN credential ok ON ok.id = oc.credential_id
WHERE mine.connection_id = %(connection_id)s
  AND ok.provider = mk.provider AND ok.client_id = mk.client_id
  AND lower(other.account) = lower(mine.account)
  AND NOT other.revoked AND other.lost_at IS NULL AND other.cache IS NOT NULL
ORDER BY oc.name

-- name: has_worked
SELECT last_success_at IS NOT NULL FROM connection_state WHERE connection_id = %(connection_id)s
