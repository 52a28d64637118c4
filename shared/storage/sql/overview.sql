-- The figures of the first page. Every query reads a bounded piece of an index.

-- name: traffic
-- Mails a bucket of time, from the ids of the ledger (UUIDv7), without reading a row of it.
SELECT floor(extract(epoch FROM to_timestamp(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0)) / %(seconds)s)::bigint AS bucket,
       count(*)
FROM message WHERE id >= %(since)s
GROUP BY 1

-- name: delays
-- From the mail's download to the last handler's confirmation, of the latest mails only.
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY taken), percentile_disc(0.95) WITHIN GROUP (ORDER BY taken)
FROM (SELECT extract(epoch FROM published_at - downloaded_at) * 1000 AS taken
      FROM message WHERE id >= %(since)s AND published_at IS NOT NULL
      ORDER BY id DESC LIMIT 500) latest

