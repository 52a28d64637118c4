-- What is asked before rights are granted.

-- name: whoami
SELECT current_user

-- name: schema
SELECT current_schema

-- name: exists
SELECT FROM pg_roles WHERE rolname = %(role)s

-- name: columns
-- Every table and view of this schema that is no dated partition, with its columns.
SELECT c.relname, a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND (NOT c.relispartition OR c.relname LIKE '%%\_rest')
