-- How each process of Posthouse is.

-- name: record_heartbeat
INSERT INTO service AS s (instance, name, version, failing, failing_since, free, total)
VALUES (%(instance)s, %(name)s, %(version)s, %(failing)s,
    CASE WHEN %(failing)s::jsonb - %(remarks)s::text[] <> '{}' THEN now() END, %(free)s, %(total)s)
ON CONFLICT (instance) DO UPDATE
SET seen_at = now(), version = excluded.version, failing = excluded.failing,
    failing_since = CASE WHEN excluded.failing - %(remarks)s::text[] <> '{}'
                         THEN coalesce(s.failing_since, now()) END,
    free = excluded.free, total = excluded.total;

-- name: forget
DELETE FROM service WHERE seen_at < now() - interval '7 days';

-- name: heartbeats
SELECT instance, name, version, started_at, seen_at, is_silent, failing, free, total
FROM (
    SELECT *, seen_at < now() - make_interval(secs => %(silent)s) AS is_silent,
           row_number() OVER (PARTITION BY name ORDER BY seen_at DESC) AS place
    FROM service
) AS s
WHERE NOT is_silent OR place = 1
ORDER BY array_position(ARRAY['scheduler', 'fetcher', 'decryptor', 'forwarder', 'admin'], name), instance;

-- name: failing
-- What living processes say, and services of which none lives any more.
SELECT name, key, min(value) FROM service, jsonb_each_text(failing)
WHERE seen_at >= now() - make_interval(secs => %(silent)s)
  AND failing_since < now() - make_interval(secs => %(after)s)
  AND key <> ALL(%(remarks)s::text[])
GROUP BY name, key
UNION ALL
SELECT name, 'heartbeat', 'No process of it is at work since ' || to_char(
    max(seen_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC.'
FROM service GROUP BY name
HAVING max(seen_at) < now() - make_interval(secs => %(silent)s + %(after)s);

-- name: raised_alerts
SELECT dedupe, data ->> 'name', data ->> 'check' FROM alert WHERE dedupe LIKE 'service/%%';

-- name: ballast
-- A row outside of compression and of every page that has room; a session that only reads refuses.
INSERT INTO service (instance, name, version, failing)
SELECT 'ballast/' || gen_random_uuid(), 'ballast', string_agg(gen_random_uuid()::text, ''), '{}'
FROM generate_series(1, 8000);
