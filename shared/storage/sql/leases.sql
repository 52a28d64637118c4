-- At most one fetch per mailbox folder at a time, over all replicas.

-- name: acquire
-- Free or run-out leases of these mailboxes, each with a fence higher than any before. One that ends
-- later than any setting allows was given before the clock was set back: its owner may have died.
INSERT INTO lease AS l (mailbox, owner, until, fence)
SELECT mailbox, %(owner)s, now() + make_interval(secs => %(ttl)s), 1
FROM unnest(%(mailboxes)s::text[]) AS mailbox ORDER BY mailbox
{take};

-- name: take
-- The end of it, also where the mailboxes come from elsewhere.
ON CONFLICT (mailbox) DO UPDATE
SET owner = excluded.owner, until = excluded.until, fence = l.fence + 1
WHERE l.until < now() OR l.until > now() + interval '16 minutes'
RETURNING l.mailbox, l.fence

-- name: renew
-- Not what was given back: its run may have ended since somebody looked which are held.
UPDATE lease AS l SET until = now() + make_interval(secs => %(ttl)s)
FROM unnest(%(mailboxes)s::text[], %(fences)s::bigint[]) AS held(mailbox, fence)
WHERE l.mailbox = held.mailbox AND l.fence = held.fence AND l.owner = %(owner)s
  AND l.until > '-infinity'
RETURNING l.mailbox, l.fence;

-- name: release
UPDATE lease AS l SET until = '-infinity'
FROM (SELECT * FROM unnest(%(mailboxes)s::text[], %(fences)s::bigint[]) LIMIT ALL)
     AS held(mailbox, fence)
WHERE l.mailbox = held.mailbox AND l.fence = held.fence AND l.owner = %(owner)s
RETURNING l.mailbox

-- name: take_away
UPDATE lease SET fence = fence + 1, until = '-infinity' WHERE mailbox = %(mailbox)s

-- name: assert_held
-- Locks the lease row against a take-over until the commit that it protects.
SELECT 1 FROM lease
WHERE mailbox = %(mailbox)s AND fence = %(fence)s AND owner = %(owner)s
FOR SHARE;
