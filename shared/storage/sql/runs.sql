-- What the runs of connections brought.

-- name: runs
SELECT id, duration_ms, found, downloaded, bytes, error FROM fetch_run
WHERE connection_id = %(connection_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: per_day
-- Mails a day, from the runs: the first 48 bits of an id are milliseconds.
SELECT ('x' || encode(substring(uuid_send(id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint / 86400000
           AS day,
       sum(downloaded)::bigint, sum(bytes)::bigint, count(*) FILTER (WHERE error IS NOT NULL)
FROM fetch_run
WHERE (%(connection_id)s::bigint IS NULL OR connection_id = %(connection_id)s) AND id >= %(since)s
GROUP BY 1
