-- Webhooks, the alerts they are told, and the log of how that went.

-- name: webhooks
SELECT id, name, template, kinds, enabled, CASE WHEN muted_until > now() THEN muted_until END,
       secret IS NOT NULL, created_at
FROM webhook ORDER BY lower(name)

-- name: webhook
SELECT id, name, template, kinds, enabled, CASE WHEN muted_until > now() THEN muted_until END,
       secret IS NOT NULL, created_at
FROM webhook WHERE id = %(id)s

-- name: new_webhook_id
-- Taken first: the address is sealed for its row.
SELECT nextval(pg_get_serial_sequence('webhook', 'id'))

-- name: insert_webhook
INSERT INTO webhook (id, name, url, secret, template, kinds, enabled, muted_until)
OVERRIDING SYSTEM VALUE
VALUES (%(id)s, %(name)s, %(url)s, %(secret)s, %(template)s, %(kinds)s, %(enabled)s,
        %(muted_until)s)

-- name: update_webhook
UPDATE webhook SET name = %(name)s, template = %(template)s, kinds = %(kinds)s,
                   enabled = %(enabled)s, muted_until = %(muted_until)s
WHERE id = %(id)s

-- name: update_webhook_url
UPDATE webhook SET url = %(url)s WHERE id = %(id)s

-- name: update_webhook_secret
UPDATE webhook SET secret = %(secret)s WHERE id = %(id)s

-- name: delete_webhook
DELETE FROM webhook WHERE id = %(id)s

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

-- name: of_ill
-- What was raised of a connection that did not recover since, and whether nobody was told yet.
SELECT id, kind, data, attempts = 0 AND next_attempt_at IS NOT NULL FROM alert
WHERE kind = ANY(%(kinds)s) AND data -> 'connection_ids' @> to_jsonb(%(connection_id)s::bigint)
ORDER BY id FOR UPDATE

-- name: still_ill
SELECT s.connection_id, c.name, coalesce(s.error ->> 'message', '')
FROM connection_state s JOIN connection c ON c.id = s.connection_id
WHERE s.connection_id = ANY(%(ids)s::bigint[]) AND c.enabled
  AND s.health IN ('failing', 'needs-authorisation')
ORDER BY s.connection_id

-- name: withdraw
DELETE FROM alert WHERE id = %(id)s

-- name: rewrite
UPDATE alert SET data = %(data)s WHERE id = %(id)s

-- name: claim_alerts
-- Due alerts, put off by a minute while the caller tells them: nobody else takes them meanwhile.
UPDATE alert SET next_attempt_at = now() + interval '1 minute', attempts = attempts + 1,
    dedupe = CASE WHEN kind = 'connection-failing' THEN '' ELSE dedupe END
WHERE id IN (
    SELECT id FROM alert WHERE next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, subject, data, attempts

-- name: untold_webhooks
-- Enabled webhooks that want this alert and have not taken it yet; one made after the alert is not
-- told (the alert's time is another machine's, hence the seconds of grace). Who asked for a test
-- gets it, whatever else is wanted.
SELECT w.id, w.name, w.url, w.secret, w.template
FROM webhook w
WHERE w.enabled AND w.created_at <= %(raised_at)s + interval '5 seconds'
  AND CASE WHEN %(only)s::bigint IS NOT NULL THEN w.id = %(only)s
      ELSE (w.muted_until IS NULL OR w.muted_until <= now())
           AND (w.kinds = '{}' OR w.kinds && %(kinds)s::text[]) END
  AND NOT EXISTS (
    SELECT 1 FROM alert_delivery d
    WHERE d.alert_id = %(id)s AND d.webhook_id = w.id AND d.status BETWEEN 200 AND 299)
ORDER BY w.id

-- name: log_delivery
INSERT INTO alert_delivery (alert_id, webhook_id, attempted_at, status, error)
VALUES (%(alert_id)s, %(webhook_id)s, clock_timestamp(), %(status)s, %(error)s)

-- name: schedule_alert
-- When to try again; NULL: it is done, or given up.
UPDATE alert SET next_attempt_at = now() + %(delay)s::interval WHERE id = %(id)s

-- name: leave_alert
UPDATE alert SET next_attempt_at = now() + %(delay)s::interval, attempts = attempts - 1
WHERE id = %(id)s

-- name: alerts
-- Newest first; `before` is the id to go on from.
SELECT id, kind, subject, data, attempts, next_attempt_at IS NOT NULL
FROM alert
WHERE (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
  AND (%(subject)s = '' OR subject = %(subject)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: deliveries
-- The execution log of some alerts, in order.
SELECT d.alert_id, d.webhook_id, w.name, d.attempted_at, d.status, d.error
FROM alert_delivery d JOIN webhook w ON w.id = d.webhook_id
WHERE d.alert_id = ANY(%(ids)s)
ORDER BY d.attempted_at

-- name: expiring_certificates
-- Certificates that end within `within` and are attached to a connection.
SELECT c.id, c.name, c.not_after FROM certificate c
WHERE c.not_after BETWEEN %(now)s AND %(now)s + %(within)s
  AND EXISTS (SELECT 1 FROM connection_certificate cc WHERE cc.certificate_id = c.id)

-- name: expiring_secrets
SELECT id, name, secret_expires_at FROM credential
WHERE secret_expires_at BETWEEN %(now)s AND %(now)s + %(within)s

-- name: old_backlogs
-- Enabled handlers: name, how many mails wait, since when, and whether that is too long.
SELECT h.id, h.name, q.backlog, q.oldest_at, q.oldest_at < now() - %(limit)s
FROM handler h JOIN handler_queue q ON q.handler_id = h.id
WHERE h.enabled

-- name: overdue
-- How many are overdue for longer than a moment, and the worst of them. As `connections.judged` says,
-- but without its joins: this is asked every few seconds.
SELECT count(*), (array_agg(c.name ORDER BY s.last_success_at NULLS FIRST, c.id))[1],
       (array_agg(s.last_success_at ORDER BY s.last_success_at NULLS FIRST, c.id))[1]
FROM connection_state AS s JOIN connection AS c ON c.id = s.connection_id
WHERE c.enabled AND s.health IN ('working', 'pending')
  AND s.due_at < now() + make_interval(mins => c.interval_minutes)
  AND greatest(s.last_success_at, s.awaited_since)
      < now() - make_interval(secs => 90 * c.interval_minutes + %(grace)s)
  AND EXISTS (SELECT FROM handler AS h WHERE h.enabled AND (h.all_connections OR EXISTS (
      SELECT FROM handler_connection AS hc
      WHERE hc.handler_id = h.id AND hc.connection_id = c.id)))
