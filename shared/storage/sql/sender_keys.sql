-- name: all
SELECT id, kind, name, subject, emails, fingerprint, not_after, certificate, created_at
FROM sender_key ORDER BY lower(name), id

-- name: certificates
SELECT certificate FROM sender_key ORDER BY id

-- name: insert
INSERT INTO sender_key (kind, name, subject, emails, fingerprint, not_after, certificate)
VALUES (%(kind)s, %(name)s, %(subject)s, %(emails)s, %(fingerprint)s, %(not_after)s,
    %(certificate)s)
RETURNING id

-- name: delete
DELETE FROM sender_key WHERE id = %(id)s
RETURNING name
