-- name: credentials
-- Without its secrets. Ends before WHERE.
SELECT id, name, provider, grant_type AS grant, client_id,
       client_secret IS NOT NULL AS has_client_secret,
       client_certificate IS NOT NULL AS has_client_certificate, tenant, cloud, settings,
       secret_expires_at, created_at, updated_at
FROM credential

-- name: of_id
WHERE id = %(id)s

-- name: of_id_locked
WHERE id = %(id)s FOR UPDATE

-- name: of_ids
WHERE id = ANY(%(ids)s) ORDER BY id

-- name: matching
WHERE name ILIKE %(pattern)s OR client_id ILIKE %(pattern)s ORDER BY lower(name)

-- name: expiring
WHERE secret_expires_at < %(before)s ORDER BY secret_expires_at

-- name: insert
INSERT INTO credential (name, provider, grant_type, client_id, tenant, cloud, settings,
    secret_expires_at)
VALUES (%(name)s, %(provider)s, %(grant)s, %(client_id)s, %(tenant)s, %(cloud)s, %(settings)s,
    %(secret_expires_at)s)
RETURNING id

-- name: update
UPDATE credential SET name = %(name)s, provider = %(provider)s, grant_type = %(grant)s,
    client_id = %(client_id)s, tenant = %(tenant)s, cloud = %(cloud)s, settings = %(settings)s,
    secret_expires_at = %(secret_expires_at)s, updated_at = now()
WHERE id = %(id)s

-- name: write_client_secret
UPDATE credential SET client_secret = %(sealed)s WHERE id = %(id)s

-- name: write_client_certificate
UPDATE credential SET client_certificate = %(sealed)s WHERE id = %(id)s

-- name: sealed
SELECT client_secret, client_certificate FROM credential WHERE id = %(id)s

-- name: delete
DELETE FROM credential WHERE id = %(id)s

-- name: used_by
SELECT id, name FROM connection WHERE credential_id = %(id)s ORDER BY lower(name)

-- name: uses
SELECT credential_id, count(*) FROM connection
WHERE credential_id = ANY(%(ids)s) GROUP BY credential_id
