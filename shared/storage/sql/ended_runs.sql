-- How runs end well.

-- name: end_runs
-- One row a run. A success keeps the cursor it is given and ends the back-off; `again` makes the
-- connection due at once (there is more to fetch), but for the pause that its server wants.
-- The last condition has the leases given back before the first state is locked, as everywhere. Whose
-- lease was taken away says nothing: its connection was edited or deleted, or another run goes on from
-- there.
-- The commit waits for no disk: whatever commits later and does, makes this durable as well. An end that a
-- crash of Postgres takes back is one of a fetcher that died before it: the lease runs out, and what the
-- server did is done once more.
WITH released AS (
    {release}
), {settling}, settled AS (
    {settled}
), noted AS (
    {insert_runs} AS n(id, connection_id)
    WHERE n.connection_id IN (
        SELECT e.id FROM unnest(%(ids)s::bigint[], %(run_mailboxes)s::text[]) AS e(id, mailbox)
        WHERE e.mailbox IN (SELECT mailbox FROM released))
)
UPDATE connection_state AS s
SET last_run_at = now(),
    last_run_ms = r.duration_ms,
    last_success_at = now(),
    health = 'working',
    error = NULL,
    failures = 0,
    cursor = CASE WHEN r.keep_cursor THEN r.cursor ELSE s.cursor END,
    uid_validity = coalesce(r.uid_validity, s.uid_validity),
    lane = r.lane,
    affinity = r.affinity,
    put_off_until = CASE WHEN r.pause > 0 THEN now() + make_interval(secs => r.pause) END,
    due_at = CASE WHEN s.due_at IS NOT NULL
                  THEN greatest(CASE WHEN r.again THEN now() ELSE s.due_at END,
                                now() + make_interval(secs => r.pause)) END
FROM (SELECT *, set_config('synchronous_commit', 'off', true)
      FROM unnest(%(ids)s::bigint[], %(durations)s::integer[], %(cursors)s::jsonb[],
                  %(keep)s::boolean[], %(validities)s::bigint[], %(lanes)s::text[],
                  %(affinities)s::text[], %(again)s::boolean[],
                  %(pauses)s::double precision[], %(run_mailboxes)s::text[]) LIMIT ALL)
     AS r(id, duration_ms, cursor, keep_cursor, uid_validity, lane, affinity, again, pause, mailbox,
          synchronous_commit)
WHERE s.connection_id = r.id AND r.mailbox IN (SELECT mailbox FROM released);
