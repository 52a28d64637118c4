-- name: acquire
-- A free place at a mailbox that is not paused. Two who pick the same one: the second gets no row
-- and asks again. A holder that died loses its place when its time is over.
WITH pause AS (
    SELECT greatest(0, extract(epoch FROM until - clock_timestamp()))::float8 AS left_s
    FROM request_pause WHERE mailbox = %(mailbox)s
), place AS (
    SELECT n FROM generate_series(1, %(at_once)s) AS n
    WHERE coalesce((SELECT left_s FROM pause), 0) = 0
      AND (%(wanted)s::integer IS NULL OR n = %(wanted)s)
      AND NOT EXISTS (
        SELECT 1 FROM request_slot s
        WHERE s.mailbox = %(mailbox)s AND s.slot = n AND s.until > clock_timestamp()
    )
    ORDER BY random() LIMIT 1
), taken AS (
    INSERT INTO request_slot AS s (mailbox, slot, holder, until)
    SELECT %(mailbox)s, n, %(holder)s, clock_timestamp() + make_interval(secs => %(hold)s)
    FROM place
    ON CONFLICT (mailbox, slot) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE s.until <= clock_timestamp()
    RETURNING slot
)
SELECT (SELECT slot FROM taken), coalesce((SELECT left_s FROM pause), 0)

-- name: release
DELETE FROM request_slot
WHERE mailbox = %(mailbox)s AND slot = ANY(%(slots)s) AND holder = %(holder)s

-- name: pause
INSERT INTO request_pause AS p (mailbox, until)
VALUES (%(mailbox)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (mailbox) DO UPDATE SET until = greatest(p.until, excluded.until)
