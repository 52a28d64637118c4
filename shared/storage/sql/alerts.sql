-- Alerts: raised with the change that they tell of, counted together, withdrawn.

-- name: raise_alert
-- One row; none where the same transition (`dedupe`) was raised before.
INSERT INTO alert (id, kind, subject, dedupe, data, next_attempt_at)
VALUES (%(id)s, %(kind)s, %(subject)s, %(dedupe)s, %(data)s, greatest(now(), %(due)s))
ON CONFLICT (dedupe) WHERE dedupe <> '' DO NOTHING

-- name: last_of_subject
-- The last alert on a subject, and whether nobody was told of it yet.
SELECT id, attempts = 0 AND next_attempt_at IS NOT NULL FROM alert
WHERE subject = %(subject)s ORDER BY id DESC LIMIT 1 FOR UPDATE

-- name: count_one_more
UPDATE alert SET data = data || jsonb_build_object('count', (data->>'count')::int + 1)
WHERE id = %(id)s

-- name: close_episode
-- What was raised under this key is over: the next time counts as new.
UPDATE alert SET dedupe = '' WHERE dedupe = %(dedupe)s

-- name: raise_failing
-- Told when it is due; until then other connections at the same host join it.
INSERT INTO alert AS a (id, kind, subject, dedupe, data, next_attempt_at)
VALUES (%(id)s, %(kind)s, %(subject)s, %(dedupe)s, %(data)s, now() + %(after)s::interval)
ON CONFLICT (dedupe) WHERE dedupe <> '' DO UPDATE
SET data = a.data || jsonb_build_object(
    'connection_ids', (a.data -> 'connection_ids') || to_jsonb(%(connection_id)s::bigint),
    'count', (a.data ->> 'count')::integer + 1)

-- name: hasten
-- It failed often enough: people are told now, if nobody was.
UPDATE alert SET next_attempt_at = now()
WHERE kind = 'connection-failing' AND attempts = 0 AND next_attempt_at > now()
  AND data -> 'connection_ids' @> to_jsonb(%(connection_id)s::bigint)

-- name: of_failing
-- What was raised of a connection that did not recover since, and whether nobody was told yet.
SELECT id, kind, data, attempts = 0 AND next_attempt_at IS NOT NULL FROM alert
WHERE kind = ANY(%(kinds)s) AND data -> 'connection_ids' @> to_jsonb(%(connection_id)s::bigint)
ORDER BY id FOR UPDATE

-- name: is_failing
SELECT EXISTS (
    SELECT FROM alert
    WHERE kind = ANY(%(kinds)s) AND data -> 'connection_ids' @> to_jsonb(%(connection_id)s::bigint))

-- name: still_failing
SELECT s.connection_id, c.name, coalesce(s.error ->> 'message', '')
FROM connection_state s JOIN connection c ON c.id = s.connection_id
WHERE s.connection_id = ANY(%(ids)s::bigint[]) AND c.enabled
  AND s.health IN ('failing', 'needs-authorisation')
ORDER BY s.connection_id

-- name: withdraw
DELETE FROM alert WHERE id = %(id)s

-- name: rewrite
UPDATE alert SET data = %(data)s WHERE id = %(id)s
