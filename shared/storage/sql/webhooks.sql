-- Webhooks: who is told of alerts.

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
