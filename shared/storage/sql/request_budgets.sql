-- How many requests a mailbox or an application may still make.

-- name: take
-- Taken where they are covered soon enough: seconds that were taken in advance before, and whether.
WITH ahead AS (
    SELECT greatest(0, extract(epoch FROM used_until - clock_timestamp()))::float8 AS seconds
    FROM request_budget WHERE budget = %(budget)s FOR UPDATE
), taken AS (
    INSERT INTO request_budget AS b (budget, used_until)
    SELECT %(budget)s, clock_timestamp() + make_interval(secs => %(cost)s)
    WHERE coalesce((SELECT seconds FROM ahead), 0) + %(cost)s <= %(most)s
    ON CONFLICT (budget) DO UPDATE
    SET used_until = greatest(b.used_until, clock_timestamp()) + make_interval(secs => %(cost)s)
    RETURNING 1
)
SELECT coalesce((SELECT seconds FROM ahead), 0), EXISTS (SELECT FROM taken);
