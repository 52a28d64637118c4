-- Mails that are to be published once more.

-- name: forget_all_left_out
WITH gone AS (DELETE FROM filtered WHERE message_id = ANY(%(ids)s::uuid[]) RETURNING *)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, decided_at, 'filtered', handler_id,
       jsonb_build_object('by', decided_by, 'reason', reason) FROM gone;

-- name: deliver_again
-- Asks for these mails again, at these handlers (empty: at those that had them, and at all others
-- whose connections and rules take them). Who holds one goes on with what it claimed, and leaves this
-- (`leave` of `outbox.sql`); a decryptor of an earlier release knows nothing of that (NULL), so the
-- claim is taken from it.
INSERT INTO outbox AS o
    (message_id, connection_id, next_attempt_at, initial, repeat_handlers, asked_handlers)
SELECT m.id, m.connection_id, now(), false,
       CASE WHEN cardinality(%(handlers)s::bigint[]) > 0 THEN %(handlers)s::bigint[]
            ELSE t.had END,
       CASE WHEN cardinality(%(handlers)s::bigint[]) > 0 THEN '{}' ELSE t.others END
FROM message AS m CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(h.id) FILTER (WHERE d.handler_id IS NOT NULL), '{}') AS had,
           coalesce(array_agg(h.id) FILTER (WHERE d.handler_id IS NULL), '{}') AS others
    FROM handler AS h
    LEFT JOIN delivery AS d ON d.message_id = m.id AND d.handler_id = h.id
    WHERE h.enabled AND (h.all_connections OR EXISTS (
        SELECT FROM handler_connection AS hc
        WHERE hc.handler_id = h.id AND hc.connection_id = m.connection_id))) AS t
WHERE m.id = ANY(%(ids)s::uuid[])
ORDER BY m.id
ON CONFLICT (message_id) DO UPDATE
SET repeat_handlers = ARRAY(SELECT DISTINCT unnest(o.repeat_handlers || excluded.repeat_handlers)),
    asked_handlers = ARRAY(SELECT DISTINCT unnest(o.asked_handlers || excluded.asked_handlers)),
    -- NULL stays NULL, which `||` would not keep: nobody has it, or one who does not look here.
    asked_while_claimed = CASE WHEN o.asked_while_claimed IS NOT NULL
        THEN o.asked_while_claimed || excluded.repeat_handlers || excluded.asked_handlers END,
    claim = CASE WHEN o.asked_while_claimed IS NOT NULL THEN o.claim END,
    claimed_until = CASE WHEN o.asked_while_claimed IS NOT NULL THEN o.claimed_until END,
    attempts = o.attempts
        - CASE WHEN o.claim IS NULL OR o.asked_while_claimed IS NOT NULL THEN 0 ELSE 1 END,
    next_attempt_at = now(), emissions = 0
RETURNING o.message_id;

-- name: number_redelivery
-- Each asking has a number of its own, by which a handler that had the mail can tell it. After
-- `deliver_again`, which locked the rows of the outbox: those come first everywhere.
WITH counted AS (
    UPDATE message SET redeliveries = redeliveries + 1 WHERE id = ANY(%(ids)s::uuid[])
    RETURNING id, redeliveries
)
UPDATE outbox AS o SET redeliveries = o.redeliveries || (
    SELECT coalesce(jsonb_object_agg(d.handler_id, jsonb_build_object(
               'count', c.redeliveries, 'time', now(), 'reason', %(reason)s::text)), '{}')
    FROM delivery AS d
    WHERE d.message_id = o.message_id AND d.handler_id = ANY(o.repeat_handlers)
      AND (cardinality(%(handlers)s::bigint[]) = 0 OR d.handler_id = ANY(%(handlers)s::bigint[])))
FROM counted AS c WHERE o.message_id = c.id;

-- name: reconsider
-- Lets a handler's rules decide anew about these mails; those of a group, too.
INSERT INTO outbox AS o (message_id, connection_id, next_attempt_at, initial, asked_handlers)
SELECT m.id, m.connection_id, now(), false, ARRAY[%(handler_id)s::bigint]
FROM message AS m WHERE m.id = ANY(%(ids)s::uuid[])
ORDER BY m.id
ON CONFLICT (message_id) DO UPDATE
SET asked_handlers = ARRAY(SELECT DISTINCT unnest(o.asked_handlers || excluded.asked_handlers)),
    asked_while_claimed = CASE WHEN o.asked_while_claimed IS NOT NULL
        THEN o.asked_while_claimed || excluded.asked_handlers END,
    claim = CASE WHEN o.asked_while_claimed IS NOT NULL THEN o.claim END,
    claimed_until = CASE WHEN o.asked_while_claimed IS NOT NULL THEN o.claimed_until END,
    attempts = o.attempts
        - CASE WHEN o.claim IS NULL OR o.asked_while_claimed IS NOT NULL THEN 0 ELSE 1 END,
    next_attempt_at = now(), emissions = 0
RETURNING o.message_id;

-- name: forget_left_out_of
WITH gone AS (
    DELETE FROM filtered WHERE message_id = ANY(%(ids)s::uuid[]) AND handler_id = %(handler_id)s
    RETURNING *
)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, decided_at, 'filtered', handler_id,
       jsonb_build_object('by', decided_by, 'reason', reason) FROM gone;

-- name: take_back
-- Who holds these shall not record what it made of them. Handlers that got one unopened know what
-- they get now for asked for, although no delivery says that they had it.
UPDATE outbox AS o
SET claim = NULL, claimed_until = NULL, asked_while_claimed = NULL, attempts = o.attempts - 1,
    redeliveries = coalesce((
        SELECT jsonb_object_agg(h.id, jsonb_build_object(
            'count', m.redeliveries, 'time', now(), 'reason', %(reason)s::text))
        FROM handler AS h), '{}') || o.redeliveries
FROM message AS m
WHERE m.id = o.message_id AND m.id = ANY(%(ids)s::uuid[]) AND o.claim IS NOT NULL;

-- name: reopen
-- Opens these mails again (a certificate was attached): their findings are made anew, and what was
-- found before stays on the path.
WITH before AS (
    INSERT INTO message_history (message_id, at, what, detail)
    SELECT id, opened_at, 'opened', jsonb_build_object(
        'status', coalesce(security ->> 'status', 'none'),
        'signature', coalesce(security ->> 'signature', 'none'))
    FROM message WHERE id = ANY(%(ids)s::uuid[]) AND opened_at IS NOT NULL
)
UPDATE message SET security = NULL, opened_key = NULL, opened_offset = NULL, opened_size = NULL,
    opened_sha256 = NULL, opened_at = NULL, undecrypted = false
WHERE id = ANY(%(ids)s::uuid[]);

-- name: lock_refills
-- Until the transaction ends: refills of several queues touch the same rows.
SELECT pg_advisory_xact_lock(hashtextextended('posthouse refill', 0));

-- name: withdraw
-- Takes all claims back. An event that was confirmed and is not recorded yet may have been in the
-- lost queue: who holds it shall not record it, and it is published once more. Waits for those who
-- are just recording; what a refill will touch is locked too, in the order of everybody.
WITH held AS (
    SELECT o.message_id FROM outbox AS o
    WHERE o.claim IS NOT NULL OR EXISTS (
        SELECT FROM delivery AS d
        WHERE d.message_id = o.message_id AND d.handler_id = %(handler_id)s
          AND d.published_at >= %(watermark)s)
    ORDER BY o.message_id
    FOR UPDATE
)
UPDATE outbox AS o
SET claim = NULL, claimed_until = NULL, asked_while_claimed = NULL, attempts = o.attempts - 1,
    next_attempt_at = now()
FROM held WHERE o.message_id = held.message_id AND o.claim IS NOT NULL;

-- name: refill
-- Publishes again whatever a lost queue may not have handed over: all that was published at or
-- after the watermark.
INSERT INTO outbox AS o (message_id, connection_id, next_attempt_at, initial, repeat_handlers)
SELECT m.id, m.connection_id, now(), false, ARRAY[%(handler_id)s::bigint]
FROM delivery AS d JOIN message AS m ON m.id = d.message_id
WHERE d.handler_id = %(handler_id)s AND d.published_at >= %(watermark)s
ORDER BY m.id
ON CONFLICT (message_id) DO UPDATE
SET repeat_handlers = ARRAY(SELECT DISTINCT unnest(o.repeat_handlers || excluded.repeat_handlers)),
    next_attempt_at = now(), emissions = 0
RETURNING o.message_id;
