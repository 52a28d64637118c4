-- What is asked now and then, whether somebody has to be told.

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
  AND s.due_at IS NOT NULL
  AND greatest(s.last_success_at, s.awaited_since,
               s.put_off_until - make_interval(mins => c.interval_minutes))
      < now() - make_interval(secs => 90 * c.interval_minutes + %(grace)s)
  AND EXISTS (SELECT FROM handler AS h WHERE h.enabled AND (h.all_connections OR EXISTS (
      SELECT FROM handler_connection AS hc
      WHERE hc.handler_id = h.id AND hc.connection_id = c.id)))
