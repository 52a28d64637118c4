-- What is told to whom, and the log of how that went.

-- name: claim_alerts
-- Due alerts, put off by a minute while the caller tells them: nobody else takes them meanwhile.
UPDATE alert SET next_attempt_at = now() + interval '1 minute', attempts = attempts + 1,
    dedupe = CASE WHEN kind = 'connection-failing' THEN '' ELSE dedupe END
WHERE id IN (
    SELECT id FROM alert WHERE next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, subject, data, attempts

-- name: undelivered_webhooks
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
