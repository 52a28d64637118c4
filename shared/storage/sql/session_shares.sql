-- How many sessions each fetcher may have open at a destination; `host` is a server, or a mailbox at one.

-- name: lock
-- Shares of one destination change one after the other; a statement after this one sees what the last did.
SELECT pg_advisory_xact_lock(hashtextextended(%(destination)s, 20117));

-- name: arrive
-- The first thing that a fetcher does is to say that it lives; where it was taken for dead, here.
INSERT INTO fetcher (owner, until, takes_jobs_until)
VALUES (%(owner)s, now() + make_interval(secs => %(ttl)s), '-infinity')
ON CONFLICT (owner) DO NOTHING;

-- name: at
-- A fetcher that is silent has no share any more. Its own share is always counted by who asks.
SELECT s.owner, s.held,
       CASE WHEN s.waits_until > clock_timestamp()
            THEN extract(epoch FROM clock_timestamp() - s.waits_since)::float8 END
FROM session_share AS s JOIN fetcher AS f ON f.owner = s.owner
WHERE s.host = %(destination)s AND (f.until > clock_timestamp() OR s.owner = %(owner)s);

-- name: limit
SELECT allowed FROM session_limit WHERE host = %(destination)s AND until > now();

-- name: at_mailbox
-- Kinds whose host is known have none here; who asks compares it.
SELECT c.mode, c.host, c.port, c.host_override, coalesce(nullif(c.shared_mailbox, ''), c.username),
       c.folder, s.affinity
FROM connection AS c JOIN connection_state AS s ON s.connection_id = c.id
WHERE c.enabled AND lower(coalesce(nullif(c.shared_mailbox, ''), c.username)) = lower(%(mailbox)s)
  AND (c.host = '' OR lower(c.host) = %(host)s);

-- name: leased
SELECT mailbox, owner FROM lease WHERE mailbox = ANY(%(mailboxes)s) AND until > now();

-- name: set
INSERT INTO session_share AS s (host, owner, held) VALUES (%(destination)s, %(owner)s, %(held)s)
ON CONFLICT (host, owner) DO UPDATE
SET held = excluded.held, waits_since = NULL, waits_until = NULL;

-- name: wait
INSERT INTO session_share AS s (host, owner, held, waits_since, waits_until)
VALUES (%(destination)s, %(owner)s, %(held)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (host, owner) DO UPDATE
SET held = excluded.held,
    waits_since = CASE WHEN s.waits_until > clock_timestamp() THEN s.waits_since
                       ELSE excluded.waits_since END,
    waits_until = excluded.waits_until;

-- name: hold
-- What a fetcher has, as it knows: fewer than before, or anew where it was taken for dead. Then others
-- look at these destinations, as there may be more now than are allowed.
INSERT INTO session_share AS s (host, owner, held, waits_since, waits_until)
SELECT host, owner, held, CASE WHEN %(anew)s THEN now() END,
       CASE WHEN %(anew)s THEN now() + make_interval(secs => %(seconds)s) END
FROM unnest(%(destinations)s::text[], %(owners)s::text[], %(held)s::integer[]) AS h (host, owner, held)
ON CONFLICT (host, owner) DO UPDATE
SET held = excluded.held,
    waits_since = coalesce(s.waits_since, excluded.waits_since),
    waits_until = coalesce(excluded.waits_until, s.waits_until);

-- name: delete
DELETE FROM session_share
WHERE owner = %(owner)s AND host = ANY(%(destinations)s)
  AND (waits_until IS NULL OR waits_until < clock_timestamp());

-- name: contested
SELECT DISTINCT host FROM session_share WHERE waits_until > clock_timestamp();

-- name: learn
INSERT INTO session_limit (host, allowed, until)
VALUES (%(destination)s, %(allowed)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (host) DO UPDATE SET allowed = excluded.allowed, until = excluded.until;
