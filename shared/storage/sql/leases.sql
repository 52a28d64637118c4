-- At most one fetch per mailbox folder at a time, over all replicas.

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
-- Also where nobody ever had it: somebody may be about to.
INSERT INTO lease AS l (mailbox, owner, until, fence) VALUES (%(mailbox)s, '', '-infinity', 1)
ON CONFLICT (mailbox) DO UPDATE SET fence = l.fence + 1, until = excluded.until

-- name: assert_held
-- Locks the lease row against a take-over until the commit that it protects.
SELECT 1 FROM lease
WHERE mailbox = %(mailbox)s AND fence = %(fence)s AND owner = %(owner)s
FOR SHARE;
