-- The store that belongs to this database.

-- name: current
SELECT identity FROM store;

-- name: remember
INSERT INTO store (identity) VALUES (%(identity)s) ON CONFLICT DO NOTHING;

-- name: replace
INSERT INTO store (identity) VALUES (%(identity)s)
ON CONFLICT (single) DO UPDATE SET identity = excluded.identity, since = now();

-- name: has_mails
SELECT EXISTS (SELECT FROM message)
    OR EXISTS (SELECT FROM quarantine WHERE raw_key IS NOT NULL);
