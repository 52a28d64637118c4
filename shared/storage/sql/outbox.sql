-- Mails that are safe here and not yet published to every handler that takes them.

-- name: due
-- What was not published in time, moved to its next turn: later and later, as the job may merely
-- wait in a long queue. `alone` where a crash may have been this mail's fault.
WITH late AS (
    SELECT message_id FROM outbox
    WHERE next_attempt_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY next_attempt_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox AS o
SET emissions = o.emissions + 1,
    next_attempt_at = now() + make_interval(secs =>
        least(600, 30 * power(2, least(o.emissions, 5))) * (0.75 + 0.5 * random()))
FROM late WHERE o.message_id = late.message_id
RETURNING o.message_id, o.attempts > 1;

-- name: claim
-- Takes these mails for one decryptor. What somebody else holds, or is published, is left out.
-- Waits for rows that are locked (a job can be here before the scheduler that sent it committed):
-- skipping them would lose the job until it is sent again.
WITH mine AS (
    SELECT message_id FROM outbox
    WHERE message_id = ANY(%(ids)s::uuid[]) AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY message_id
    FOR UPDATE
), taken AS (
    UPDATE outbox AS o
    SET claim = %(claim)s, claimed_until = now() + make_interval(secs => %(ttl)s),
        attempts = o.attempts + 1
    FROM mine WHERE o.message_id = mine.message_id
    RETURNING o.message_id, o.attempts, o.initial, o.repeat_handlers, o.missing_since,
              o.asked_handlers, o.had_handlers, o.chosen, o.doubts, o.redeliveries
)
SELECT m.id, m.connection_id, m.sequence, m.size, m.sha256, m.raw_key, m.raw_offset, m.message_id,
       m.sender, m.recipients, m.cc, m.subject, m.sent_at, m.downloaded_at, m.arrived_at,
       taken.attempts, taken.initial, taken.repeat_handlers,
       m.security, m.opened_key, m.opened_offset, m.opened_size, m.opened_sha256, m.correlation_id,
       m.sender_name, m.recipient_names, m.cc_names, m.findings,
       extract(epoch FROM now() - taken.missing_since)::double precision, taken.asked_handlers,
       taken.had_handlers, taken.chosen, taken.doubts, m.provider_thread, m.labels,
       taken.redeliveries
FROM taken JOIN message AS m ON m.id = taken.message_id
WHERE m.id = ANY(%(ids)s::uuid[])
ORDER BY m.raw_key, m.raw_offset;

-- name: renew
WITH mine AS (
    SELECT message_id FROM outbox
    WHERE claim = ANY(%(claims)s) AND message_id = ANY(%(ids)s::uuid[])
    ORDER BY message_id
    FOR UPDATE
)
UPDATE outbox AS o SET claimed_until = now() + make_interval(secs => %(ttl)s)
FROM mine WHERE o.message_id = mine.message_id;

-- name: still_mine
SELECT message_id FROM outbox
WHERE message_id = ANY(%(ids)s::uuid[]) AND claim = %(claim)s AND claimed_until > now();

-- name: hold
-- Those that are still ours, until the transaction ends. Whoever took a claim back (the queue was
-- lost, or more is wanted by now) wants the work done once more, so nothing of it is recorded.
-- Rows are locked in this order everywhere, so that nobody waits for each other.
SELECT message_id FROM outbox
WHERE message_id = ANY(%(ids)s::uuid[]) AND claim = %(claim)s
ORDER BY message_id
FOR UPDATE;

-- name: release
-- Gives mails back, to be tried again after a while.
UPDATE outbox AS o
SET claim = NULL, claimed_until = NULL, error = r.error,
    attempts = o.attempts - CASE WHEN r.blameless THEN 1 ELSE 0 END,
    next_attempt_at = now() + make_interval(secs => r.delay),
    missing_since = CASE WHEN r.missing THEN coalesce(o.missing_since, now()) END
FROM unnest(%(ids)s::uuid[], %(errors)s::text[], %(delays)s::double precision[],
            %(blameless)s::boolean[], %(missing)s::boolean[])
     AS r(id, error, delay, blameless, missing)
WHERE o.message_id = r.id AND o.claim = %(claim)s;

-- name: targets
-- Enabled handlers that take these connections, and those that already have a mail.
SELECT h.id, h.name, h.all_connections,
       ARRAY(SELECT hc.connection_id FROM handler_connection AS hc
             WHERE hc.handler_id = h.id AND hc.connection_id = ANY(%(connection_ids)s)),
       h.signing_key, h.former_signing_key, h.rules::text, h.group_name, h.position
FROM handler AS h WHERE h.enabled ORDER BY h.id;

-- name: delivered
SELECT message_id, handler_id, redelivery FROM delivery WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: left_out
-- Which handlers do not get these mails, as was decided before.
SELECT message_id, handler_id, decided_by FROM filtered WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: record_choices
-- Before anything is published: whoever tries again publishes to these and to nobody else.
UPDATE outbox AS o SET chosen = c.chosen::bigint[],
    doubts = CASE WHEN c.doubts = '{}' THEN o.doubts ELSE coalesce(o.doubts, '{}') || c.doubts END
FROM unnest(%(ids)s::uuid[], %(choices)s::text[], %(doubts)s::jsonb[]) AS c(id, chosen, doubts)
WHERE o.message_id = c.id;

-- name: record_left_out
INSERT INTO filtered AS f (message_id, handler_id, decided_at, decided_by, reason)
SELECT message_id, handler_id, now(), decided_by, reason
FROM unnest(%(ids)s::uuid[], %(handlers)s::bigint[], %(by)s::text[], %(reasons)s::text[])
     AS p(message_id, handler_id, decided_by, reason)
ON CONFLICT (message_id, handler_id) DO UPDATE
SET decided_at = excluded.decided_at, decided_by = excluded.decided_by, reason = excluded.reason;

-- name: forget_left_out
-- These are to get the mail after all.
WITH gone AS (
    DELETE FROM filtered AS f
    USING unnest(%(ids)s::uuid[], %(handlers)s::bigint[]) AS p(message_id, handler_id)
    WHERE f.message_id = p.message_id AND f.handler_id = p.handler_id
      AND f.message_id = ANY(%(ids)s::uuid[])
    RETURNING f.*
)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, decided_at, 'filtered', handler_id,
       jsonb_build_object('by', decided_by, 'reason', reason) FROM gone;

-- name: forget_all_left_out
WITH gone AS (DELETE FROM filtered WHERE message_id = ANY(%(ids)s::uuid[]) RETURNING *)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, decided_at, 'filtered', handler_id,
       jsonb_build_object('by', decided_by, 'reason', reason) FROM gone;

-- name: record_deliveries
INSERT INTO delivery AS d (message_id, handler_id, published_at, position, note, redelivery)
SELECT message_id, handler_id, now(), position, note, redelivery
FROM unnest(%(ids)s::uuid[], %(handlers)s::bigint[], %(positions)s::text[], %(notes)s::text[],
            %(redeliveries)s::jsonb[])
     AS p(message_id, handler_id, position, note, redelivery)
ON CONFLICT (message_id, handler_id) DO UPDATE
SET published_at = excluded.published_at, position = excluded.position, repeats = d.repeats + 1,
    redelivery = excluded.redelivery;

-- name: keep_deliveries
-- Before they are repeated: the ones that were stay on the path.
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT d.message_id, d.published_at, 'published', d.handler_id, jsonb_build_object(
    'position', d.position, 'note', d.note, 'redelivery', d.redelivery)
FROM delivery AS d
JOIN unnest(%(ids)s::uuid[], %(handlers)s::bigint[]) AS p(message_id, handler_id)
  ON d.message_id = p.message_id AND d.handler_id = p.handler_id
WHERE d.message_id = ANY(%(ids)s::uuid[]);

-- name: record_outcomes
UPDATE message AS m
SET opened_at = now(), security = o.security, opened_key = o.opened_key,
    opened_offset = o.opened_offset, opened_size = o.opened_size, opened_sha256 = o.opened_sha256,
    undecrypted = coalesce(
        o.security ->> 'status' IN ('no_recipient', 'unsupported', 'failed'), false)
FROM unnest(%(ids)s::uuid[], %(securities)s::jsonb[], %(keys)s::text[], %(offsets)s::bigint[],
            %(sizes)s::bigint[], %(sha256s)s::bytea[])
     AS o(id, security, opened_key, opened_offset, opened_size, opened_sha256)
WHERE m.id = o.id AND m.id = ANY(%(ids)s::uuid[]);

-- name: finish
-- Everything that was asked for is confirmed: the work is done. What was found in a mail is here
-- already, or the mail is a plain one. One array, not a join: that would sort the ids for each row.
WITH done AS (
    DELETE FROM outbox WHERE message_id = ANY(%(ids)s::uuid[]) AND claim = %(claim)s RETURNING message_id
)
UPDATE message
SET published_at = CASE WHEN id = ANY(%(unwanted)s::uuid[]) THEN published_at
                        ELSE coalesce(published_at, now()) END,
    unwanted = id = ANY(%(unwanted)s::uuid[]),
    opened_at = coalesce(opened_at, now()), security = coalesce(security, %(plain)s),
    facts = coalesce(%(facts)s::jsonb -> id::text, facts),
    kind = CASE WHEN %(facts)s::jsonb ? id::text
                THEN coalesce(%(facts)s::jsonb -> id::text ->> 'k', 'person') ELSE kind END,
    thread = CASE WHEN %(facts)s::jsonb ? id::text
                  THEN coalesce(%(threads)s::jsonb ->> id::text, '') ELSE thread END
WHERE id = ANY(ARRAY(SELECT message_id FROM done));

-- name: take_out
-- Of a mail that is still ours: what its entry in quarantine needs to know.
WITH gone AS (
    DELETE FROM outbox AS o WHERE message_id = %(id)s AND claim = %(claim)s
    RETURNING message_id, to_jsonb(o) AS work
)
SELECT m.connection_id, m.folder, m.native_key, coalesce(m.uid_validity, 0), m.size, m.raw_key,
       m.raw_offset, gone.work
FROM gone JOIN message AS m ON m.id = gone.message_id;

-- name: redeliver
-- Asks for these mails again, at these handlers (empty: at those that had them, and at all others
-- whose connections and rules take them). Who holds one may have published it already, but not for
-- this.
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
    next_attempt_at = now(), emissions = 0, claim = NULL, claimed_until = NULL,
    attempts = o.attempts - CASE WHEN o.claim IS NULL THEN 0 ELSE 1 END
RETURNING o.message_id;

-- name: number_redelivery
-- Each asking has a number of its own, by which a handler that had the mail can tell it. After
-- `redeliver`, which locked the rows of the outbox: those come first everywhere.
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
    next_attempt_at = now(), emissions = 0, claim = NULL, claimed_until = NULL,
    attempts = o.attempts - CASE WHEN o.claim IS NULL THEN 0 ELSE 1 END
RETURNING o.message_id;

-- name: forget_left_out_of
WITH gone AS (
    DELETE FROM filtered WHERE message_id = ANY(%(ids)s::uuid[]) AND handler_id = %(handler_id)s
    RETURNING *
)
INSERT INTO message_history (message_id, at, what, handler_id, detail)
SELECT message_id, decided_at, 'filtered', handler_id,
       jsonb_build_object('by', decided_by, 'reason', reason) FROM gone;

-- name: reopen
-- Opens these mails again (a certificate was attached): their findings are made anew, and what was
-- found before stays on the path.
WITH before AS (
    INSERT INTO message_history (message_id, at, what, detail)
    SELECT id, opened_at, 'opened', jsonb_build_object(
        'status', security -> 'status', 'signature', security -> 'signature')
    FROM message WHERE id = ANY(%(ids)s::uuid[]) AND opened_at IS NOT NULL
)
UPDATE message SET security = NULL, opened_key = NULL, opened_offset = NULL, opened_size = NULL,
    opened_sha256 = NULL, opened_at = NULL, undecrypted = false
WHERE id = ANY(%(ids)s::uuid[]);

-- name: take_turns
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
SET claim = NULL, claimed_until = NULL, attempts = o.attempts - 1, next_attempt_at = now()
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

-- name: size
SELECT count(*), min(m.downloaded_at) FROM outbox AS o JOIN message AS m ON m.id = o.message_id;
