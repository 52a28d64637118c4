-- Permits for requests at mailboxes, shared by all processes.

-- name: lock
-- Permits of one mailbox change one after the other; a statement after this one sees what the last did.
SELECT pg_advisory_xact_lock(hashtextextended(%(mailbox)s, 20118));

-- name: heartbeat
-- Whether this process was known to live until now.
WITH known AS (
    SELECT until FROM request_process WHERE holder = %(holder)s FOR UPDATE
), alive AS (
    INSERT INTO request_process AS p (holder, until)
    VALUES (%(holder)s, clock_timestamp() + make_interval(secs => %(ttl)s))
    ON CONFLICT (holder) DO UPDATE SET until = excluded.until
)
SELECT EXISTS (SELECT FROM known WHERE until > clock_timestamp());

-- name: forget
DELETE FROM request_permit WHERE holder = %(holder)s;

-- name: release_all
DELETE FROM request_process WHERE holder = %(holder)s;

-- name: purge
-- Processes that died, with their permits, and pauses that are over.
WITH gone AS (
    DELETE FROM request_process WHERE until < clock_timestamp() - interval '1 minute'
)
DELETE FROM request_pause WHERE until < clock_timestamp() - interval '1 minute';

-- name: at
-- What others hold, what those want who wait longer, whether any other waits, and the pause.
SELECT coalesce(sum(p.held) FILTER (WHERE a.until > clock_timestamp()), 0),
       coalesce(sum(p.wants) FILTER (WHERE p.waits_until > clock_timestamp()
           AND p.waits_since < coalesce(
               (SELECT mine.waits_since FROM request_permit AS mine
                WHERE mine.mailbox = %(mailbox)s AND mine.holder = %(holder)s
                  AND mine.waits_until > clock_timestamp()), 'infinity')), 0),
       coalesce(bool_or(p.waits_until > clock_timestamp()), false),
       coalesce((SELECT greatest(0, extract(epoch FROM r.until - clock_timestamp()))::float8
                 FROM request_pause AS r WHERE r.mailbox = %(mailbox)s), 0)
FROM request_permit AS p JOIN request_process AS a USING (holder)
WHERE p.mailbox = %(mailbox)s AND p.holder <> %(holder)s;

-- name: hold
INSERT INTO request_permit (mailbox, holder, held)
VALUES (%(mailbox)s, %(holder)s, %(held)s)
ON CONFLICT (mailbox, holder) DO UPDATE
SET held = excluded.held, wants = 0, waits_since = NULL, waits_until = NULL;

-- name: wait
INSERT INTO request_permit AS p (mailbox, holder, held, wants, waits_since, waits_until)
VALUES (%(mailbox)s, %(holder)s, %(held)s, %(more)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (mailbox, holder) DO UPDATE
SET held = excluded.held, wants = excluded.wants, waits_until = excluded.waits_until,
    waits_since = CASE WHEN p.waits_until > clock_timestamp() THEN p.waits_since
                       ELSE excluded.waits_since END;

-- name: keep
-- A process gives permits back; who waits goes on waiting.
UPDATE request_permit AS p SET held = k.held
FROM unnest(%(mailboxes)s::text[], %(held)s::smallint[]) AS k (mailbox, held)
WHERE p.mailbox = k.mailbox AND p.holder = %(holder)s;

-- name: remove_unused
DELETE FROM request_permit
WHERE mailbox = ANY(%(mailboxes)s) AND holder = %(holder)s AND held = 0 AND waits_since IS NULL;

-- name: waiting_and_paused
-- Mailboxes at which others wait for a permit (no seconds), and those that are paused.
SELECT mailbox, NULL::float8 FROM request_permit
WHERE waits_since IS NOT NULL AND waits_until > clock_timestamp() AND holder <> %(holder)s
UNION ALL
SELECT mailbox, extract(epoch FROM until - clock_timestamp())::float8 FROM request_pause
WHERE until > clock_timestamp();

-- name: paused
SELECT greatest(0, extract(epoch FROM until - clock_timestamp()))::float8
FROM request_pause WHERE mailbox = %(mailbox)s;

-- name: pause
INSERT INTO request_pause AS p (mailbox, until)
VALUES (%(mailbox)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (mailbox) DO UPDATE SET until = greatest(p.until, excluded.until);
