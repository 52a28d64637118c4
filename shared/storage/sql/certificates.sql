-- name: certificates
-- Without its key. Ends before WHERE.
SELECT id, kind, name, alias, subject, issuer, serial, fingerprint, not_before, not_after, emails,
       key_type, created_at, updated_at
FROM certificate

-- name: of_ids
WHERE id = ANY(%(ids)s) ORDER BY lower(name)

-- name: of_id_locked
WHERE id = %(id)s FOR UPDATE

-- name: matching
WHERE search_text LIKE %(pattern)s ORDER BY lower(name), id LIMIT %(limit)s OFFSET %(offset)s

-- name: count
SELECT count(*) FROM certificate WHERE search_text LIKE %(pattern)s

-- name: expiring
WHERE not_after < %(before)s ORDER BY not_after

-- name: insert
-- Its key is sealed for this row, so it follows once the id is known.
INSERT INTO certificate (kind, name, alias, subject, issuer, serial, fingerprint, not_before,
    not_after, emails, key_type, certificate, chain, search_text)
VALUES (%(kind)s, %(name)s, %(alias)s, %(subject)s, %(issuer)s, %(serial)s, %(fingerprint)s,
    %(not_before)s, %(not_after)s, %(emails)s, %(key_type)s, %(certificate)s, %(chain)s,
    %(search_text)s)
RETURNING id

-- name: replace
UPDATE certificate SET kind = %(kind)s, subject = %(subject)s, issuer = %(issuer)s,
    serial = %(serial)s, fingerprint = %(fingerprint)s, not_before = %(not_before)s,
    not_after = %(not_after)s, emails = %(emails)s, key_type = %(key_type)s,
    certificate = %(certificate)s, chain = %(chain)s, search_text = %(search_text)s,
    updated_at = now()
WHERE id = %(id)s

-- name: rename
UPDATE certificate SET name = %(name)s, alias = %(alias)s, search_text = %(search_text)s,
    updated_at = now()
WHERE id = %(id)s

-- name: write_key
UPDATE certificate SET private_key = %(sealed)s WHERE id = %(id)s

-- name: keys
-- For the decryptor: certificates with their sealed keys.
SELECT id, kind, certificate, private_key FROM certificate WHERE id = ANY(%(ids)s) ORDER BY id

-- name: delete
DELETE FROM certificate WHERE id = %(id)s

-- name: used_by
SELECT c.id, c.name FROM connection_certificate cc JOIN connection c ON c.id = cc.connection_id
WHERE cc.certificate_id = %(id)s ORDER BY lower(c.name)

-- name: uses
SELECT certificate_id, count(*) FROM connection_certificate
WHERE certificate_id = ANY(%(ids)s) GROUP BY certificate_id

-- name: anchors
SELECT id, name, subject, fingerprint, not_after, certificate, created_at FROM trust_anchor
ORDER BY lower(name), id

-- name: anchor_ders
SELECT certificate FROM trust_anchor ORDER BY id

-- name: insert_anchor
INSERT INTO trust_anchor (name, subject, fingerprint, not_after, certificate)
VALUES (%(name)s, %(subject)s, %(fingerprint)s, %(not_after)s, %(certificate)s)
RETURNING id

-- name: delete_anchor
DELETE FROM trust_anchor WHERE id = %(id)s
RETURNING name

-- name: names
SELECT id, name FROM certificate
