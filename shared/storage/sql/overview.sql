-- name: recent_delays
-- Of the newest published mails: seconds from the download to the event.
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY d),
       percentile_cont(0.95) WITHIN GROUP (ORDER BY d), count(*)
FROM (SELECT extract(epoch FROM published_at - downloaded_at)::double precision AS d
      FROM message WHERE id >= %(since)s AND published_at IS NOT NULL
      ORDER BY id DESC LIMIT 1000) newest

-- name: per_slot
-- Mails downloaded per slot of %(seconds)s seconds: the first 48 bits of an id are milliseconds.
SELECT ('x' || encode(substring(uuid_send(id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint
           / (%(seconds)s::bigint * 1000) AS slot,
       sum(downloaded)::bigint, sum(bytes)::bigint
FROM fetch_run WHERE id >= %(since)s
GROUP BY 1

-- name: unhealthy
-- Connections that need somebody, the longest failing first. After connections.judged.
SELECT j.id, j.name, j.health, j.error, j.failures, j.last_success_at
FROM judged AS j WHERE j.health IN ('failing', 'needs-authorisation', 'overdue')
ORDER BY j.last_success_at NULLS FIRST, j.id LIMIT %(limit)s

-- name: unwanted
-- Mails that no handler wants, of the newest %(limit)s: those that the list of such mails has.
SELECT count(*) FROM (
    SELECT FROM message AS m WHERE m.unwanted AND m.id >= %(since)s
      AND NOT EXISTS (SELECT FROM outbox AS o WHERE o.message_id = m.id)
      AND NOT EXISTS (SELECT FROM quarantine AS q WHERE q.id = m.id)
    ORDER BY m.id DESC LIMIT %(limit)s
) AS newest;

-- name: undecrypted
-- Mails that stayed encrypted, of the newest %(limit)s that did; %(connection)s: of that one alone.
SELECT count(*) FROM (
    SELECT connection_id FROM message WHERE undecrypted AND id >= %(since)s
    ORDER BY id DESC LIMIT %(limit)s
) AS newest
WHERE %(connection)s::bigint IS NULL OR connection_id = %(connection)s
