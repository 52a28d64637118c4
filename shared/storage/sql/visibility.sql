-- Whether somebody who sees connections with some tags alone sees one thing.

-- name: connection
SELECT FROM connection WHERE id = %(id)s AND tags && %(tags)s

-- name: message
SELECT FROM message m JOIN connection c ON c.id = m.connection_id
WHERE m.id = %(id)s AND c.tags && %(tags)s

-- name: quarantined
SELECT FROM quarantine q JOIN connection c ON c.id = q.connection_id
WHERE q.id = %(id)s AND c.tags && %(tags)s
