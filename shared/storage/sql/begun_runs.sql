-- How runs begin: what they need to know, and the lease of their mailbox.

-- name: asked
-- `mailboxes` are lease keys, of those connections that the fetcher knows as they were edited at
-- `versions`; NULL where it does not.
SELECT * FROM unnest(%(ids)s::bigint[], %(mailboxes)s::text[], %(versions)s::timestamptz[])
    AS a(id, mailbox, version) LIMIT ALL

-- name: found
-- What a run begins with, and whether its connection is `known` as it was edited last. Of its lease the
-- last fence; whether nobody holds it; and whether whoever held it last gave it back.
a.mailbox, coalesce(a.version = c.updated_at, false) AS known, coalesce(l.fence, 0) AS fence,
coalesce(l.until < now() OR l.until > now() + interval '16 minutes', true) AS free,
coalesce(l.until = '-infinity', true) AS given_back,
s.connection_id, s.cursor, s.uid_validity, s.failures, s.health, s.start_since, s.skip_existing,
s.skipped_before, s.skipped_known, s.validity_changed_at,
coalesce(s.pruned_at < now() - interval '1 day', true),
EXISTS (SELECT FROM settlement AS t WHERE t.connection_id = s.connection_id
        AND t.folder = c.folder AND t.uid_validity = coalesce(s.uid_validity, 0)
        AND (t.flagged_at IS NULL OR t.flagged_at < now() - interval '10 minutes')),
EXISTS (SELECT FROM download_failure AS f WHERE f.connection_id = s.connection_id), c.updated_at,
s.awaited_since

-- name: by_id
FROM asked AS a JOIN connection_state AS s ON s.connection_id = a.id
JOIN connection AS c ON c.id = s.connection_id
LEFT JOIN LATERAL (SELECT fence, until FROM lease WHERE mailbox = a.mailbox LIMIT 1) AS l ON true

-- name: take
-- Leases what this statement sees as nobody's, unless it has another fence by now: since its snapshot a
-- run, an edit or a release from quarantine may have changed what the run would begin with. One that ran
-- out is ended first, `held` by nobody: until then its owner may go on committing.
INSERT INTO lease AS l (mailbox, owner, until, fence)
SELECT mailbox, %(owner)s, CASE WHEN given_back THEN now() + make_interval(secs => %(ttl)s)
                                ELSE '-infinity' END, fence + 1
FROM ready WHERE mailbox IS NOT NULL AND known AND used AND in_time AND free ORDER BY mailbox
ON CONFLICT (mailbox) DO UPDATE
SET owner = excluded.owner, until = excluded.until, fence = excluded.fence
WHERE l.fence = excluded.fence - 1
  AND (l.until < now() OR l.until > now() + interval '16 minutes')
RETURNING l.mailbox, l.fence, l.until > '-infinity' AS held

-- name: announced
-- Connections whose servers pushed to this fetcher, where they are enabled and kept there. Their next
-- turn stays as it is. `used` as in claim_due. Compared in a way that keeps Postgres from going through
-- all that have this affinity. From the UID `unknown_from` on no mail of the folder was had: that is so
-- for who gets the lease.
WITH asked AS MATERIALIZED (
    {asked}
), ready AS MATERIALIZED (
    SELECT now() AS at, %(has_room)s AND s.lane = 'fetch' AS in_time, EXISTS (
        SELECT FROM handler AS h
        WHERE h.enabled AND (h.all_connections OR EXISTS (
            SELECT FROM handler_connection AS hc
            WHERE hc.handler_id = h.id AND hc.connection_id = s.connection_id))
    ) AS used, (
        SELECT upper(k.uids) FROM known_uid AS k
        WHERE k.connection_id = s.connection_id AND k.folder = c.folder
          AND k.uid_validity = s.uid_validity
    ) AS unknown_from, {found}
    {by_id}
    WHERE s.affinity IS NOT DISTINCT FROM %(owner)s AND s.due_at IS NOT NULL AND c.enabled
), leased AS (
    {take}
)
SELECT ready.*, leased.fence, leased.held FROM ready LEFT JOIN leased ON leased.mailbox = ready.mailbox;

-- name: due
-- Connections that a job names, where they are enabled and have not run since the job was emitted.
-- `in_time`: that was not longer ago than `within` seconds. Mostly nothing is new there, so what is
-- known of their mails is not read: hundreds of kilobytes, where these are in many ranges.
WITH asked AS MATERIALIZED (
    {asked}
), ready AS MATERIALIZED (
    SELECT now() AS at,
           now() <= %(emitted_at)s::timestamptz + make_interval(secs => %(within)s) AS in_time,
           true AS used, NULL::bigint AS unknown_from, {found}
    {by_id}
    WHERE c.enabled AND (s.last_run_at IS NULL OR s.last_run_at < %(emitted_at)s)
), leased AS (
    {take}
)
SELECT ready.*, leased.fence, leased.held FROM ready LEFT JOIN leased ON leased.mailbox = ready.mailbox;
