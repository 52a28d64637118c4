-- name: batch
-- Rows of one sealed column in the order of their key. Identifiers are filled in by sealed_columns.py.
SELECT {key}::text AS row_key, {column} FROM {table}
WHERE {column} IS NOT NULL AND (%(after)s::{type} IS NULL OR {key} > %(after)s::{type})
ORDER BY {key} LIMIT %(size)s

-- name: replace
-- Only where nobody entered another secret in the meantime.
UPDATE {table} SET {column} = new.sealed
FROM unnest(%(keys)s::text[], %(old)s::bytea[], %(new)s::bytea[]) AS new (key, was, sealed)
WHERE {table}.{key}::text = new.key AND {table}.{column} = new.was
