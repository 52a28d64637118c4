-- How runs begin: what they need to know, and the lease of their mailbox.

-- name: asked
-- `mailboxes` are lease keys, of those connections that the fetcher knows as they were edited at
-- `versions`; NULL where it does not.
SELECT * FROM unnest(%(ids)s::bigint[], %(mailboxes)s::text[], %(versions)s::timestamptz[])
    AS a(id, mailbox, version) LIMIT ALL

-- name: found
-- What a run begins with, and whether its connection is `known` as it was edited last. `given_back`:
-- the last fence of its lease, where nobody holds it.
a.mailbox, coalesce(a.version = c.updated_at, false) AS known,
(SELECT l.fence FROM lease AS l WHERE l.mailbox = a.mailbox AND l.until = '-infinity') AS given_back,
s.connection_id, s.cursor, s.uid_validity, s.failures, s.health, s.start_since, s.skip_existing,
s.skipped_before, s.validity_changed_at, coalesce(s.pruned_at < now() - interval '1 day', true),
EXISTS (SELECT FROM settlement AS t WHERE t.connection_id = s.connection_id
        AND t.folder = c.folder AND t.uid_validity = coalesce(s.uid_validity, 0)
        AND (t.flagged_at IS NULL OR t.flagged_at < now() - interval '10 minutes')),
EXISTS (SELECT FROM download_failure AS f WHERE f.connection_id = s.connection_id), c.updated_at,
s.awaited_since

-- name: announced
-- Connections whose servers pushed to this fetcher, where they are enabled and kept there. Their next
-- turn stays as it is. `used` as in claim_due. Compared in a way that keeps Postgres from going through
-- all that have this affinity. From the UID `unknown_from` on no mail of the folder was had: that is so
-- for who gets the lease right after `given_back`, as whoever held it in between may have had some.
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
    FROM asked AS a JOIN connection_state AS s ON s.connection_id = a.id
    JOIN connection AS c ON c.id = s.connection_id
    WHERE s.affinity IS NOT DISTINCT FROM %(owner)s AND s.due_at IS NOT NULL AND c.enabled
), leased AS (
    INSERT INTO lease AS l (mailbox, owner, until, fence)
    SELECT mailbox, %(owner)s, now() + make_interval(secs => %(ttl)s), 1
    FROM ready WHERE mailbox IS NOT NULL AND known AND used AND in_time ORDER BY mailbox
    {take}
)
SELECT ready.*, leased.fence FROM ready LEFT JOIN leased ON leased.mailbox = ready.mailbox;

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
    FROM asked AS a JOIN connection_state AS s ON s.connection_id = a.id
    JOIN connection AS c ON c.id = s.connection_id
    WHERE c.enabled AND (s.last_run_at IS NULL OR s.last_run_at < %(emitted_at)s)
), leased AS (
    INSERT INTO lease AS l (mailbox, owner, until, fence)
    SELECT mailbox, %(owner)s, now() + make_interval(secs => %(ttl)s), 1
    FROM ready WHERE mailbox IS NOT NULL AND known AND in_time ORDER BY mailbox
    {take}
)
SELECT ready.*, leased.fence FROM ready LEFT JOIN leased ON leased.mailbox = ready.mailbox;
