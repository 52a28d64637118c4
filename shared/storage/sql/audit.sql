-- Who changed what. Rows are only ever added.

-- name: record
INSERT INTO audit (id, actor, action, subject, before, after)
VALUES (%(id)s, %(actor)s, %(action)s, %(subject)s, %(before)s, %(after)s)

-- name: record_once
INSERT INTO audit (id, actor, action, subject)
SELECT %(id)s, %(actor)s, %(action)s, %(subject)s
WHERE NOT EXISTS (
    SELECT FROM audit
    WHERE subject = %(subject)s AND id > %(since)s::uuid
      AND actor = %(actor)s AND action = %(action)s)

-- name: entries
-- Newest first; `before` is the id to go on from.
SELECT id, actor, action, subject, before, after
FROM audit
WHERE (%(subject)s = '' OR subject = %(subject)s)
  AND (%(query)s = '' OR actor ILIKE %(pattern)s OR action ILIKE %(pattern)s OR subject ILIKE %(pattern)s)
  AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
ORDER BY id DESC
LIMIT %(limit)s
